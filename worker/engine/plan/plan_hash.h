// The identity of a plan: SHA-256 of a canonical serialisation, in which numbers are 8 bytes, little-endian, and texts
// and lists are preceded by their length, so that no two plans have one serialisation.
#pragma once

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Fills output_hash and hash of a finished plan, as export_plan.h documents them. Paths, and what differs between
// machines that see the same files (devices, inodes), are in neither.
void HashPlan(ExportPlan& plan);

}  // namespace slipway::engine
