#include "server/services/validation.h"

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/parallel_size.h"
#include "common/recipe_text.h"
#include "common/vocabulary.h"

namespace slipway::server {
namespace {

constexpr std::size_t kMaximumRequestId = 128;
constexpr std::size_t kMaximumText = 4096;
constexpr std::int32_t kMaximumPriority = 100;

constexpr std::array<std::string_view, 4> kDtypes = {"", "bf16", "fp16", "fp32"};
constexpr std::array<std::string_view, 4> kDigests = {"", "sha256", "xxh3", "none"};

// Collects violations; what comes out names all of them.
class Violations {
 public:
  void Add(const absl::Status& status) {
    if (!status.ok()) {
      violations_.push_back(status);
    }
  }
  void Require(bool holds, Reason reason, const std::string& message) {
    if (!holds) {
      violations_.push_back(Error(reason, message));
    }
  }
  [[nodiscard]] absl::Status Result() const {
    if (violations_.size() <= 1) {
      return violations_.empty() ? absl::OkStatus() : violations_.front();
    }
    std::string all;
    for (const absl::Status& violation : violations_) {
      all += fmt::format("{}{}", all.empty() ? "" : " ", std::string(violation.message()));
    }
    return Error(Reason::kInvalidArgument, all);
  }

 private:
  std::vector<absl::Status> violations_;
};

template <std::size_t Size>
bool IsOneOf(const std::string& value, const std::array<std::string_view, Size>& allowed) {
  return std::ranges::find(allowed, value) != allowed.end();
}

void CheckText(Violations& violations, const char* field, const std::string& value) {
  violations.Require(value.size() <= kMaximumText && value.find('\0') == std::string::npos, Reason::kInvalidArgument,
                     fmt::format("{} must have at most {} bytes and no NUL.", field, kMaximumText));
}

void CheckQuantization(Violations& violations, const v1::ExportSpec& spec) {
  const auto check_word = [&violations](std::span<const Word> words, const char* field, const std::string& chosen) {
    if (!chosen.empty()) {
      violations.Add(CheckWord(words, field, chosen));
    }
  };
  check_word(QuantizationFormats(), "spec.quantization", spec.quantization());
  check_word(KvCaches(), "spec.kv_cache", spec.kv_cache());
  check_word(ConfigForms(), "spec.config_form", spec.config_form());
  check_word(ScaleSearches(), "spec.scale_search", spec.scale_search());
  if (!spec.recipe().empty()) {
    violations.Add(CheckRecipeText("spec.recipe", spec.recipe()));
    violations.Require(spec.quantization().empty(), Reason::kInvalidArgument,
                       "spec.recipe does not go with spec.quantization.");
  }
}

void CheckRanks(Violations& violations, const v1::ExportSpec& spec) {
  std::vector<std::string> targets(spec.targets().begin(), spec.targets().end());
  if (targets.empty()) {
    targets.emplace_back("huggingface");
  }
  const auto check_size = [&](const char* field, std::int32_t size) {
    if (size != 0) {
      violations.Add(CheckParallelSize(field, size, targets));
    }
  };
  check_size("spec.tensor_parallel", spec.tensor_parallel());
  check_size("spec.pipeline_parallel", spec.pipeline_parallel());
  check_size("spec.expert_parallel", spec.expert_parallel());
  violations.Add(CheckTensorRtLlmVersion("spec.tensorrt_llm_version", spec.tensorrt_llm_version(), targets));
}

void CheckOptions(Violations& violations, const v1::ExportSpec& spec) {
  for (const std::string& target : spec.targets()) {
    violations.Add(CheckWord(Targets(), "spec.targets", target));
  }
  const std::set<std::string> distinct(spec.targets().begin(), spec.targets().end());
  violations.Require(static_cast<int>(distinct.size()) == spec.targets_size(), Reason::kInvalidArgument,
                     "spec.targets has repetitions.");
  CheckRanks(violations, spec);
  CheckQuantization(violations, spec);
  violations.Require(IsOneOf(spec.dtype(), kDtypes), Reason::kInvalidArgument,
                     "spec.dtype must be bf16, fp16, fp32 or empty.");
  violations.Require(IsOneOf(spec.digest(), kDigests), Reason::kInvalidArgument,
                     "spec.digest must be sha256, xxh3, none or empty.");
  violations.Require(!spec.has_iteration() || spec.iteration() >= 0, Reason::kInvalidArgument,
                     "spec.iteration must not be negative.");
  violations.Require(spec.max_shard_bytes() >= 0, Reason::kInvalidArgument,
                     "spec.max_shard_bytes must not be negative.");
  CheckText(violations, "spec.hf_config", spec.hf_config());
  violations.Require(spec.hf_config().empty() || spec.hf_config().front() == '/', Reason::kInvalidArgument,
                     "spec.hf_config must be an absolute path.");
  CheckText(violations, "spec.architecture", spec.architecture());
  violations.Require(!spec.adapter_only() || !spec.adapter().empty(), Reason::kInvalidArgument,
                     "spec.adapter_only needs spec.adapter.");
}

// Of what the request asks for, the request_id apart.
std::string DigestOf(const v1::CreateExportRequest& request) {
  return Sha256(fmt::format("{}\n{}", request.priority(), request.spec().SerializeAsString()));
}

}  // namespace

absl::StatusOr<NewExport> ValidateCreate(const v1::CreateExportRequest& request, const OutputRoots& roots) {
  const v1::ExportSpec& spec = request.spec();
  Violations violations;
  violations.Add(CheckCheckpointPath(spec.checkpoint(), "spec.checkpoint", roots));
  if (!spec.adapter().empty()) {
    violations.Add(CheckCheckpointPath(spec.adapter(), "spec.adapter", roots));
  }
  if (!spec.ranges().empty()) {
    violations.Add(CheckCheckpointPath(spec.ranges(), "spec.ranges", roots));
  }
  CheckOptions(violations, spec);
  violations.Require(request.request_id().size() <= kMaximumRequestId, Reason::kInvalidArgument,
                     fmt::format("request_id must have at most {} bytes.", kMaximumRequestId));
  violations.Require(request.priority() >= -kMaximumPriority && request.priority() <= kMaximumPriority,
                     Reason::kInvalidArgument,
                     fmt::format("priority must be from {} to {}.", -kMaximumPriority, kMaximumPriority));
  std::string output;
  if (!spec.publish().empty()) {
    absl::StatusOr<std::string> resolved = ResolvePublishPath(spec.publish(), roots);
    violations.Add(resolved.status());
    output = resolved.ok() ? *std::move(resolved) : std::string();
  }
  SLIPWAY_RETURN_IF_ERROR(violations.Result());
  return NewExport{.spec = spec.SerializeAsString(),
                   .checkpoint = spec.checkpoint(),
                   .output = std::move(output),
                   .priority = request.priority(),
                   .request_id = request.request_id(),
                   .request_digest = DigestOf(request)};
}

absl::Status ParseFilter(const std::string& filter, ListQuery& query) {
  constexpr std::string_view kAnd = " AND ";
  std::string_view rest = filter;
  while (!rest.empty()) {
    const std::size_t end = rest.find(kAnd);
    const std::string_view term = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + kAnd.size());
    const std::size_t equals = term.find('=');
    const std::string_view field = term.substr(0, equals);
    const std::string_view value = equals == std::string_view::npos ? std::string_view() : term.substr(equals + 1);
    if (field == "state" && !query.state && ExportStateFromName(value)) {
      query.state = ExportStateFromName(value);
    } else if (field == "checkpoint" && !query.checkpoint && !value.empty()) {
      query.checkpoint = std::string(value);
    } else {
      return Error(Reason::kInvalidArgument,
                   fmt::format("filter: '{}' is not understood; use state=NAME and checkpoint=PATH, joined by AND.",
                               term.substr(0, 256)));
    }
  }
  return absl::OkStatus();
}

}  // namespace slipway::server
