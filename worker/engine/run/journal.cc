#include "worker/engine/run/journal.h"

#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "worker/engine/run/staging.h"
#include "worker/engine/write/rounding_json.h"

namespace slipway::engine {
namespace {

constexpr int kVersion = 1;
constexpr std::int64_t kMaximumRecord = std::int64_t{256} << 20;

std::string RecordPath(const std::string& staging, const std::string& file) {
  return fmt::format("{}/{}/{}.json", staging, kJournalDirectory, file);
}

// What tells this run of the machine from others; none where it cannot be known.
std::optional<std::string> BootIdentity() {
  constexpr std::int64_t kMaximum = 256;
  auto text = PosixFileSystem().ReadSmallFile("/proc/sys/kernel/random/boot_id", kMaximum);
  return text.ok() && !text->empty() ? std::optional(*std::move(text)) : std::nullopt;
}

// Whether the shard of a record is as durable as `files` promises: one that was left to the page cache is there until
// the machine restarts, and is not good enough for whoever promises to survive that.
bool Outlasts(const nlohmann::json& record, const FileSystem& files) {
  const auto boot = record.find("boot");
  return boot == record.end() || (files.durability() == Durability::kPageCache && boot->is_string() &&
                                  BootIdentity() == boot->get<std::string>());
}

// The record as a result, or nullopt where it is not one of this shard under this plan.
std::optional<ShardResult> Parse(const ExportPlan& plan, std::int32_t index, const std::string& text,
                                 const FileSystem& files) {
  const Shard& shard = plan.shards[static_cast<std::size_t>(index)];
  try {
    const nlohmann::json record = nlohmann::json::parse(text);
    const bool same = record.at("version") == kVersion && record.at("plan_hash") == plan.hash &&
                      record.at("file") == shard.file && record.at("bytes") == shard.bytes &&
                      record.at("digest_algorithm") == std::string(NameOf(plan.options.digest)) &&
                      record.at("tensors").size() == static_cast<std::size_t>(shard.tensor_count) &&
                      Outlasts(record, files);
    if (!same) {
      return std::nullopt;
    }
    ShardResult result;
    result.shard = index;
    result.file = shard.file;
    result.bytes = shard.bytes;
    result.digest = record.at("digest");
    for (const nlohmann::json& tensor : record.at("tensors")) {
      const auto& planned = plan.tensors[static_cast<std::size_t>(shard.first_tensor) + result.tensors.size()];
      if (tensor.at("name") != planned.name) {
        return std::nullopt;
      }
      WrittenTensor& written = result.tensors.emplace_back();
      written = {.name = planned.name, .xxh3 = tensor.at("xxh3")};
      if (IsCast(planned)) {
        written.rounding = RoundingFromJson(tensor.at("rounding"));
      }
      if (planned.quantized && planned.quantized->role == StoredRole::kCodes) {
        written.quantization = StatisticsFromJson(tensor.at("quantization"));
      }
    }
    return result;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

}  // namespace

absl::Status RecordShard(const ExportPlan& plan, const ShardResult& result, const std::string& staging,
                         FileSystem& files) {
  nlohmann::ordered_json record{{"version", kVersion},
                                {"plan_hash", plan.hash},
                                {"file", result.file},
                                {"bytes", result.bytes},
                                {"digest_algorithm", std::string(NameOf(plan.options.digest))},
                                {"digest", result.digest}};
  if (files.durability() == Durability::kPageCache) {
    record["boot"] = BootIdentity().value_or("unknown");
  }
  nlohmann::ordered_json& tensors = record["tensors"] = nlohmann::ordered_json::array();
  for (const WrittenTensor& tensor : result.tensors) {
    tensors.push_back({{"name", tensor.name}, {"xxh3", tensor.xxh3}});
    if (tensor.rounding) {
      tensors.back()["rounding"] = RoundingToJson(*tensor.rounding);
    }
    if (tensor.quantization) {
      tensors.back()["quantization"] = StatisticsToJson(*tensor.quantization);
    }
  }
  const std::string path = RecordPath(staging, result.file);
  SLIPWAY_RETURN_IF_ERROR(files.MakeDirectories(ParentOf(path)));
  return files.WriteSmallFileAtomically(path, record.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::optional<ShardResult> FindRecord(const ExportPlan& plan, std::int32_t shard, const std::string& staging,
                                      FileSystem& files) {
  const Shard& planned = plan.shards[static_cast<std::size_t>(shard)];
  const auto text = files.ReadSmallFile(RecordPath(staging, planned.file), kMaximumRecord);
  if (!text.ok()) {
    return std::nullopt;
  }
  const auto identity = files.Identify(fmt::format("{}/{}", staging, planned.file));
  if (!identity.ok() || identity->size != planned.bytes) {
    return std::nullopt;
  }
  return Parse(plan, shard, *text, files);
}

}  // namespace slipway::engine
