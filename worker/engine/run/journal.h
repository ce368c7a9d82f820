// The journal of a staging directory: one small file a finished shard, so that a crash costs only the shards in flight.
//
// journal/<shard file>.json: {"version": 1, "plan_hash", "file", "bytes", "digest_algorithm", "digest", "tensors":
// [{"name", "xxh3", "rounding" (where it was cast, see write/rounding_json.h), "quantization" (of codes, see
// quantize/weight_statistics.h)}]}, and "boot", the identity of the
// machine's run, where the shard was left to the page cache (Durability::kPageCache): such a record counts in that run
// only, and only for those who promise no more.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "common/file_system.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/run/shard_writer.h"

namespace slipway::engine {

inline constexpr std::string_view kJournalDirectory = "journal";
inline constexpr std::string_view kLockFile = "lock";

// Records a shard whose file is in place under its final name.
absl::Status RecordShard(const ExportPlan& plan, const ShardResult& result, const std::string& staging,
                         FileSystem& files);

// What the journal says of a shard, with bytes_written 0, if it was written under this plan and its file is there with
// the right size. Nothing otherwise, however unreadable the record: the shard is then written again.
std::optional<ShardResult> FindRecord(const ExportPlan& plan, std::int32_t shard, const std::string& staging,
                                      FileSystem& files);

}  // namespace slipway::engine
