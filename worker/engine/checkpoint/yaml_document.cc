#include "worker/engine/checkpoint/yaml_document.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "common/error.h"
#include "worker/engine/checkpoint/arguments.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

// A run's configuration has about a thousand values, ten deep, in 30 KB.
constexpr std::size_t kMaximumBytes = 4 << 20;
constexpr std::size_t kMaximumValues = 200'000;
constexpr std::size_t kMaximumDepth = 32;
constexpr std::size_t kMaximumCopiedBytes = 32 << 20;

bool IsOneOf(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, text) != words.end();
}

std::optional<std::int64_t> Integer(std::string_view text) {
  const bool negative = text.starts_with('-');
  std::string_view digits = text.substr(negative || text.starts_with('+') ? 1 : 0);
  const int base = digits.starts_with("0x") ? 16 : digits.starts_with("0o") ? 8 : 10;
  digits.remove_prefix(base == 10 ? 0 : 2);
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
  const bool whole = error == std::errc() && end == digits.data() + digits.size() && !digits.starts_with('-');
  return whole ? std::optional(negative ? -number : number) : std::nullopt;
}

std::optional<double> Number(std::string_view text) {
  const std::string_view digits = text.substr(text.starts_with('+') ? 1 : 0);
  if (digits.find_first_of("0123456789") == std::string_view::npos ||
      digits.find_first_not_of("0123456789.eE+-") != std::string_view::npos) {
    return std::nullopt;
  }
  double number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  return whole && std::isfinite(number) ? std::optional(number) : std::nullopt;
}

json PlainScalar(const std::string& text) {
  if (IsOneOf(text, {"", "~", "null", "Null", "NULL"})) {
    return nullptr;
  }
  if (IsOneOf(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})) {
    return true;
  }
  if (IsOneOf(text, {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})) {
    return false;
  }
  if (IsOneOf(text, {".inf", ".Inf", ".INF", "+.inf"})) {
    return "Infinity";
  }
  if (IsOneOf(text, {"-.inf", "-.Inf", "-.INF"})) {
    return "-Infinity";
  }
  if (IsOneOf(text, {".nan", ".NaN", ".NAN"})) {
    return "NaN";
  }
  if (const auto number = Integer(text)) {
    return *number;
  }
  if (const auto number = Number(text)) {
    return *number;
  }
  return text;
}

// Stops the parser; never leaves this file.
struct Refusal {
  Reason reason;
  std::string message;
  YAML::Mark mark;
};

// Builds the value while the parser runs, so that no tree is made that the limits would have refused.
class JsonBuilder : public YAML::EventHandler {
 public:
  [[nodiscard]] json Take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { Scalar(mark, anchor, nullptr, "null"); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const bool text = tag == "!" || tag == "tag:yaml.org,2002:str";
    Scalar(mark, anchor, text ? json(value) : PlainScalar(value), value);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      throw Refusal{Reason::kCheckpointCorrupt, "an alias inside its own anchor", mark};
    }
    if (AwaitsKey()) {
      throw Refusal{Reason::kCheckpointCorrupt, "an alias as a key", mark};
    }
    CheckDepth(found->second.depth, mark);
    Count(found->second.values, mark);
    copied_bytes_ += found->second.bytes;
    if (copied_bytes_ > kMaximumCopiedBytes) {
      throw Refusal{Reason::kLimitExceeded, "aliases of too much text", mark};
    }
    Place(found->second.value, found->second.depth);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    Open(mark, anchor, json::array());
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    Open(mark, anchor, json::object());
  }
  void OnMapEnd() override { Close(); }

 private:
  struct Container {
    json value;
    YAML::anchor_t anchor = YAML::NullAnchor;
    std::size_t values_before = 0;   // counted when it began
    std::size_t depth = 1;           // with what it holds so far
    std::optional<std::string> key;  // of a mapping, once it was read
  };
  struct Anchored {
    json value;
    std::size_t values = 0;
    std::size_t bytes = 0;
    std::size_t depth = 0;  // of containers; 0: a scalar
  };

  [[nodiscard]] bool AwaitsKey() const { return !open_.empty() && open_.back().value.is_object() && !open_.back().key; }

  // Whether a value so deep may stand here.
  void CheckDepth(std::size_t depth, const YAML::Mark& mark) const {
    if (depth > kMaximumDepth - open_.size()) {
      throw Refusal{Reason::kLimitExceeded, fmt::format("nested more than {} deep", kMaximumDepth), mark};
    }
  }

  void Count(std::size_t values, const YAML::Mark& mark) {
    if (values > kMaximumValues - values_) {
      throw Refusal{Reason::kLimitExceeded, fmt::format("more than {} values", kMaximumValues), mark};
    }
    values_ += values;
  }

  void Scalar(const YAML::Mark& mark, YAML::anchor_t anchor, json value, const std::string& spelled) {
    Count(1, mark);
    if (AwaitsKey()) {
      open_.back().key = spelled;
      return;
    }
    if (anchor != YAML::NullAnchor) {
      anchors_[anchor] = {.value = value, .values = 1, .bytes = spelled.size()};
    }
    Place(std::move(value), 0);
  }

  void Open(const YAML::Mark& mark, YAML::anchor_t anchor, json value) {
    if (AwaitsKey()) {
      throw Refusal{Reason::kCheckpointCorrupt, "a key that is no scalar", mark};
    }
    CheckDepth(1, mark);
    open_.push_back({.value = std::move(value), .anchor = anchor, .values_before = values_, .key = {}});
    Count(1, mark);
  }

  void Close() {
    Container closed = std::move(open_.back());
    open_.pop_back();
    if (closed.anchor != YAML::NullAnchor) {
      // Copies inside count with their bytes, too.
      const std::size_t bytes = closed.value.dump(-1, ' ', false, json::error_handler_t::replace).size();
      copied_bytes_ += bytes;
      if (copied_bytes_ > kMaximumCopiedBytes) {
        throw Refusal{Reason::kLimitExceeded, "anchors of too much text", YAML::Mark::null_mark()};
      }
      anchors_[closed.anchor] = {
          .value = closed.value, .values = values_ - closed.values_before, .bytes = bytes, .depth = closed.depth};
    }
    Place(std::move(closed.value), closed.depth);
  }

  void Place(json value, std::size_t depth) {
    if (open_.empty()) {
      root_ = std::move(value);
      return;
    }
    Container& container = open_.back();
    container.depth = std::max(container.depth, depth + 1);
    if (container.value.is_array()) {
      container.value.push_back(std::move(value));
    } else {
      container.value[*std::exchange(container.key, std::nullopt)] = std::move(value);
    }
  }

  json root_;
  std::vector<Container> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  std::size_t values_ = 0;
  std::size_t copied_bytes_ = 0;
};

}  // namespace

absl::StatusOr<json> ParseYaml(const std::string& text, const std::string& file) {
  if (text.size() > kMaximumBytes) {
    return Error(Reason::kLimitExceeded, fmt::format("more than {} bytes of YAML", kMaximumBytes), {.file = file});
  }
  const auto refuse = [&file](Reason reason, std::string_view message, const YAML::Mark& mark) {
    return Error(reason, message, {.file = file, .offset = std::max(mark.pos, 0)});
  };
  try {
    std::istringstream stream(ValidUtf8(text));
    YAML::Parser parser(stream);
    JsonBuilder builder;
    if (!parser.HandleNextDocument(builder)) {
      return json();
    }
    return builder.Take();
  } catch (const Refusal& refusal) {
    return refuse(refusal.reason, refusal.message, refusal.mark);
  } catch (const YAML::DeepRecursion& error) {
    return refuse(Reason::kLimitExceeded, "nested too deep", error.mark);
  } catch (const YAML::Exception& error) {
    return refuse(Reason::kCheckpointCorrupt, fmt::format("no YAML: {}", error.msg), error.mark);
  }
}

}  // namespace slipway::engine
