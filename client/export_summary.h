// Exports and plans as people read them.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "client/console.h"
#include "slipway/v1/export.pb.h"

namespace slipway {

// The end of a successful export: where it is, what it is, how long it took, its digest, what casting did to
// the weights (the manifest says it, where this machine sees it). With --json {"export": {...}, "output": PATH,
// "seconds": S, "manifest_sha256": HEX, "rounding": [...] (see rounding_summary.h), "directories": [...] (of several
// targets)}.
void PrintExportSummary(const v1::Export& finished, const std::string& output, double seconds, const Console& console);

// One line an export; `now` in seconds since the epoch.
std::string RenderExportTable(const std::vector<v1::Export>& exports, double now, int width);

// Everything about one export.
std::string RenderExport(const v1::Export& item, double now, int width);

}  // namespace slipway
