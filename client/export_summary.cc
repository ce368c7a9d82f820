#include "client/export_summary.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "client/human.h"
#include "client/message_json.h"
#include "client/rounding_summary.h"
#include "client/table.h"
#include "common/digest.h"
#include "common/file_system.h"

namespace slipway {
namespace {

constexpr std::int64_t kMaximumManifestBytes = 1 << 30;

struct ManifestSummary {
  std::string digest;  // SHA-256 of the manifest, which names the digest of every other file
  std::vector<CastTotal> casts;
  std::vector<std::string> directories;  // of several targets
};

// Empty where this machine does not see the manifest.
ManifestSummary Summarize(const std::string& output) {
  const auto text = PosixFileSystem().ReadSmallFile(output + "/manifest.json", kMaximumManifestBytes);
  if (!text.ok()) {
    return {};
  }
  ManifestSummary summary{.digest = Sha256(*text), .casts = {}, .directories = {}};
  const auto manifest = engine::ParseManifest(*text);
  if (!manifest.ok()) {
    return summary;
  }
  summary.casts = CastTotals(*manifest);
  for (const engine::ManifestDirectory& directory : manifest->directories) {
    summary.directories.push_back(directory.path);
    const std::string path = fmt::format("{}/{}/manifest.json", output, directory.path);
    const auto own = PosixFileSystem().ReadSmallFile(path, kMaximumManifestBytes);
    if (const auto parsed = engine::ParseManifest(own.value_or("")); parsed.ok()) {
      AddCasts(CastTotals(*parsed), summary.casts);
    }
  }
  return summary;
}

std::string Age(const google::protobuf::Timestamp& since, double now) {
  return HumanDuration(now - SecondsOf(since)) + " ago";
}

std::string PercentOf(const v1::Progress& progress) {
  return progress.bytes_total() > 0 ? fmt::format("{}%", progress.bytes_done() * 100 / progress.bytes_total()) : "";
}

std::string NameOfReason(const v1::ErrorDetail& error) {
  constexpr std::size_t kPrefix = sizeof("ERROR_REASON_") - 1;
  const std::string& name = v1::ErrorReason_Name(error.reason());
  return name.size() > kPrefix ? name.substr(kPrefix) : name;
}

std::string Describe(const v1::ErrorDetail& error) {
  return fmt::format("{}: {}", NameOfReason(error), error.message());
}

}  // namespace

void PrintExportSummary(const v1::Export& finished, const std::string& output, double seconds, const Console& console) {
  const auto [digest, casts, directories] = Summarize(output);
  if (console.json) {
    nlohmann::ordered_json json{{"export", MessageToJson(finished)},
                                {"output", output},
                                {"seconds", seconds},
                                {"manifest_sha256", digest},
                                {"rounding", CastsToJson(casts)}};
    if (!directories.empty()) {
      json["directories"] = directories;
    }
    console.PrintJson(json);
    return;
  }
  const v1::PlanSummary& plan = finished.plan();
  const double rate = seconds > 0 ? static_cast<double>(plan.output_bytes()) / seconds : 0;
  console.out << RenderPairs({
      {"exported", output},
      {"targets", directories.empty() ? "" : fmt::format("{}, each a directory of it", fmt::join(directories, ", "))},
      {"model", fmt::format("{}, {} parameters", plan.architecture(), HumanParameters(plan.parameters()))},
      {"wrote", fmt::format("{}, {} in {}", HumanCount(plan.tensors(), "tensor"), HumanBytes(plan.output_bytes()),
                            HumanCount(plan.shard_bytes_size(), "file"))},
      {"took", fmt::format("{} ({})", HumanDuration(seconds), HumanRate(rate))},
      {"rounding", RenderCasts(casts)},
      {"digest", digest.empty() ? "" : "sha256:" + digest + " of manifest.json"},
  });
  console.out << std::flush;
}

std::string RenderExportTable(const std::vector<v1::Export>& exports, double now, int width) {
  Table table({{.title = "NAME"},
               {.title = "STATE"},
               {.title = "DONE", .align_right = true},
               {.title = "SIZE", .align_right = true},
               {.title = "AGE", .align_right = true},
               {.title = "CHECKPOINT", .minimum = 12}});
  for (const v1::Export& item : exports) {
    const bool planned = item.plan().output_bytes() > 0;
    table.AddRow({item.name(), NameOf(item.state()), PercentOf(item.progress()),
                  planned ? HumanBytes(item.plan().output_bytes()) : "",
                  HumanDuration(now - SecondsOf(item.create_time())), item.spec().checkpoint()});
  }
  return table.Render(width);
}

std::string RenderExport(const v1::Export& item, double now, int width) {
  const v1::PlanSummary& plan = item.plan();
  const bool queued = item.state() == v1::EXPORT_STATE_QUEUED;
  const auto shards = fmt::format("{} of {} files", item.progress().shards_done(), item.progress().shards_total());
  std::string text = RenderPairs({
      {"name", item.name()},
      {"state", NameOf(item.state())},
      {"checkpoint", item.spec().checkpoint()},
      {"created", Age(item.create_time(), now)},
      {"ended", item.has_end_time() ? Age(item.end_time(), now) : ""},
      {"queue", queued ? fmt::format("{} before it", item.queue_position()) : ""},
      {"model", item.has_plan()
                    ? fmt::format("{}, {} parameters", plan.architecture(), HumanParameters(plan.parameters()))
                    : ""},
      {"output", item.has_plan()
                     ? fmt::format("{}, {}", HumanCount(plan.tensors(), "tensor"), HumanBytes(plan.output_bytes()))
                     : ""},
      {"done", item.has_plan() ? fmt::format("{}, {}", PercentOf(item.progress()), shards) : ""},
      {"plan", plan.plan_hash()},
      {"artifact", item.artifact_path()},
      {"error", item.has_error() ? Describe(item.error()) : ""},
      {"  tensor", item.error().tensor()},
      {"  file", item.error().file()},
      {"  offset", item.error().has_offset() ? std::to_string(item.error().offset()) : ""},
  });
  for (const std::string& warning : plan.warnings()) {
    text += "warning: " + Printable(warning) + "\n";
  }
  if (item.attempts_size() > 0) {
    Table attempts({{.title = "ATTEMPT"}, {.title = "WORKER", .minimum = 8}, {.title = "RESULT", .minimum = 12}});
    for (const v1::Attempt& attempt : item.attempts()) {
      const std::string result = attempt.has_error()      ? Describe(attempt.error())
                                 : attempt.has_end_time() ? "done"
                                                          : "running";
      const bool shard = attempt.task() == "shard";
      attempts.AddRow({shard ? fmt::format("shard {}", attempt.shard()) : attempt.task(), attempt.worker(), result});
    }
    text += "\n" + attempts.Render(width);
  }
  return text;
}

}  // namespace slipway
