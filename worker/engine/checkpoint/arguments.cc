#include "worker/engine/checkpoint/arguments.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "common/utf8.h"

namespace slipway::engine {
namespace {

using Kind = PickleValue::Kind;

// Megatron has about 700 arguments; the caps leave room for a hundred times that. Values that are shared in the pickle
// count each time that they are met, so a small pickle cannot unfold into a huge document.
constexpr int kMaximumDepth = 32;
constexpr std::int64_t kMaximumValues = 200'000;
constexpr std::size_t kMaximumTextBytes = 32 << 20;
// Wider integers only occur as seeds and hashes.
constexpr std::size_t kMaximumBigIntegerBytes = 64;

constexpr std::array kCommonKeys = std::to_array<std::string_view>({"args", "checkpoint_version", "iteration"});

// Little-endian two's complement as "0x1f" or "-0x1f"; decimal digits (protocol 0) as they are.
std::string SpellBigInteger(std::string_view bytes) {
  if (std::ranges::all_of(bytes, [](char c) { return (c >= '0' && c <= '9') || c == '-'; })) {
    return std::string(bytes);
  }
  std::string magnitude(bytes);
  const bool negative = (static_cast<unsigned char>(bytes.back()) & 0x80) != 0;
  if (negative) {
    unsigned carry = 1;
    for (char& c : magnitude) {
      const unsigned sum = (~static_cast<unsigned>(static_cast<unsigned char>(c)) & 0xFF) + carry;
      c = static_cast<char>(sum & 0xFF);
      carry = sum >> 8;
    }
  }
  std::string digits;
  std::ranges::reverse(magnitude);
  for (const char c : magnitude) {
    digits += fmt::format("{:02x}", static_cast<unsigned char>(c));
  }
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  return (negative ? "-0x" : "0x") + digits;
}

std::string Dotted(PickleClass name) { return ValidUtf8(fmt::format("{}.{}", name.module, name.name)); }

class Converter {
 public:
  explicit Converter(const PickleDocument& document) : document_(document) {}

  // Recursion is bounded by kMaximumDepth, the number of calls by kMaximumValues.
  absl::StatusOr<nlohmann::json> Convert(PickleValue value, int depth) {
    if (depth > kMaximumDepth) {
      return Error(Reason::kLimitExceeded, fmt::format("arguments nested more than {} deep", kMaximumDepth));
    }
    if (++values_ > kMaximumValues) {
      return Error(Reason::kLimitExceeded, fmt::format("arguments with more than {} values", kMaximumValues));
    }
    switch (value.kind()) {
      case Kind::kNone:
        return nlohmann::json();
      case Kind::kBoolean:
        return nlohmann::json(value.Boolean().value_or(false));
      case Kind::kInteger:
        return nlohmann::json(value.Integer().value_or(0));
      case Kind::kFloat:
        return Float(value.Number().value_or(0));
      case Kind::kBigInteger:
        return BigInteger(document_.Bytes(value).value_or(""));
      case Kind::kText:
        return Text(document_.Text(value).value_or(""));
      case Kind::kTuple:
      case Kind::kList:
        return Array(value, depth);
      case Kind::kDictionary:
        return Dictionary(value, depth);
      case Kind::kClass:
        return Class(document_.Class(value));
      case Kind::kObject:
        return Object(value, depth);
      case Kind::kBytes:
        return Opaque("builtins.bytes");
      case Kind::kPersistent:
      case Kind::kRecord:
      case Kind::kMark:
        break;
    }
    return Opaque("torch.storage");
  }

 private:
  static nlohmann::json Opaque(std::string name) { return {{"opaque", std::move(name)}}; }

  static nlohmann::json Float(double number) {
    if (std::isfinite(number)) {
      return number;
    }
    return std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
  }

  static nlohmann::json BigInteger(std::string_view bytes) {
    if (bytes.empty() || bytes.size() > kMaximumBigIntegerBytes) {
      return Opaque("builtins.int");
    }
    return SpellBigInteger(bytes);
  }

  absl::StatusOr<nlohmann::json> Text(std::string_view text) {
    if (text.size() > kMaximumTextBytes - text_bytes_) {
      return Error(Reason::kLimitExceeded, fmt::format("arguments with more than {} bytes of text", kMaximumTextBytes));
    }
    text_bytes_ += text.size();
    return nlohmann::json(ValidUtf8(text));
  }

  absl::StatusOr<nlohmann::json> Array(PickleValue value, int depth) {
    nlohmann::json array = nlohmann::json::array();
    for (const PickleValue item : document_.Items(value)) {
      SLIPWAY_ASSIGN_OR_RETURN(nlohmann::json converted, Convert(item, depth + 1));
      array.push_back(std::move(converted));
    }
    return array;
  }

  absl::StatusOr<nlohmann::json> Dictionary(PickleValue value, int depth) {
    nlohmann::json object = nlohmann::json::object();
    const auto items = document_.Items(value);
    for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
      SLIPWAY_ASSIGN_OR_RETURN(const nlohmann::json key, Convert(items[i], depth + 1));
      SLIPWAY_ASSIGN_OR_RETURN(object[key.is_string() ? key.get<std::string>() : key.dump()],
                               Convert(items[i + 1], depth + 1));
    }
    return object;
  }

  // dtypes read as torch prints them.
  static nlohmann::json Class(PickleClass name) {
    if (name.module == "torch" && DTypeFromTorchName(name.name)) {
      return Dotted(name);
    }
    return Opaque(Dotted(name));
  }

  absl::StatusOr<nlohmann::json> Object(PickleValue value, int depth) {
    const PickleClass name = document_.Class(value);
    if (name.Is("argparse", "Namespace") || name.Is("types", "SimpleNamespace")) {
      return Dictionary(document_.State(value), depth);
    }
    const auto arguments = document_.Items(document_.Arguments(value));
    if (name.module.starts_with("pathlib")) {
      return Join(arguments, "/");
    }
    if (name.Is("torch", "device")) {
      return Join(arguments, ":");
    }
    // An enumeration's member is its class called with the value.
    if (arguments.size() == 1 && document_.State(value).IsNone() &&
        (arguments[0].kind() == Kind::kInteger || arguments[0].kind() == Kind::kText)) {
      SLIPWAY_ASSIGN_OR_RETURN(nlohmann::json member, Convert(arguments[0], depth + 1));
      return nlohmann::json{{"enum", Dotted(name)}, {"value", std::move(member)}};
    }
    return Opaque(Dotted(name));
  }

  absl::StatusOr<nlohmann::json> Join(std::span<const PickleValue> parts, std::string_view separator) {
    std::string joined;
    for (const PickleValue part : parts) {
      const std::string next = part.Integer() ? std::to_string(*part.Integer())
                                              : std::string(document_.Text(part).value_or(std::string_view()));
      const bool needs_separator = !joined.empty() && !joined.ends_with(separator);
      joined.append(needs_separator ? separator : std::string_view()).append(next);
    }
    return Text(joined);
  }

  const PickleDocument& document_;
  std::int64_t values_ = 0;
  std::size_t text_bytes_ = 0;
};

// The first of the names that the arguments have as an integer; 0 without one.
std::int64_t FirstInteger(const nlohmann::json& arguments, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (const auto value = IntegerArgument(arguments, name)) {
      return *value;
    }
  }
  return 0;
}

const nlohmann::json* FindArgument(const nlohmann::json& arguments, std::string_view name) {
  if (!arguments.is_object()) {
    return nullptr;
  }
  const auto found = arguments.find(name);
  return found == arguments.end() ? nullptr : &*found;
}

}  // namespace

std::string ValidUtf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = Utf8SequenceLength(text);
    if (length == 0) {
      valid += '?';
      text.remove_prefix(1);
    } else {
      valid += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return valid;
}

ParallelLayout LayoutOf(const nlohmann::json& arguments) {
  return {.tensor = FirstInteger(arguments, {"tensor_model_parallel_size", "model_parallel_size"}),
          .pipeline = FirstInteger(arguments, {"pipeline_model_parallel_size"}),
          .virtual_pipeline = FirstInteger(arguments, {"virtual_pipeline_model_parallel_size"}),
          .expert = FirstInteger(arguments, {"expert_model_parallel_size"}),
          .expert_tensor = FirstInteger(arguments, {"expert_tensor_parallel_size"}),
          .context = FirstInteger(arguments, {"context_parallel_size"}),
          .data = FirstInteger(arguments, {"data_parallel_size"})};
}

absl::StatusOr<nlohmann::json> PickleToJson(const PickleDocument& document, PickleValue value) {
  return Converter(document).Convert(value, 0);
}

bool IsCommonKey(std::string_view key) { return std::ranges::count(kCommonKeys, key) != 0; }

absl::Status AddCommonValue(const PickleDocument& document, std::string_view key, PickleValue value,
                            CommonState& common) {
  if (key == "args") {
    SLIPWAY_ASSIGN_OR_RETURN(nlohmann::json converted, PickleToJson(document, value));
    if (converted.is_object() && !converted.contains("opaque")) {
      common.arguments = std::move(converted);
      common.layout = LayoutOf(common.arguments);
    }
  } else if (key == "checkpoint_version") {
    common.checkpoint_version = value.Number();
  } else if (key == "iteration") {
    common.iteration = value.Integer();
  }
  return absl::OkStatus();
}

absl::StatusOr<CommonState> ReadCommonState(const PickleDocument& document, PickleValue state) {
  CommonState common;
  for (const std::string_view key : kCommonKeys) {
    if (const auto value = document.Find(state, key)) {
      SLIPWAY_RETURN_IF_ERROR(AddCommonValue(document, key, *value, common));
    }
  }
  return common;
}

std::optional<std::int64_t> IntegerArgument(const nlohmann::json& arguments, std::string_view name) {
  const nlohmann::json* const value = FindArgument(arguments, name);
  return value != nullptr && value->is_number_integer() ? std::optional(value->get<std::int64_t>()) : std::nullopt;
}

std::optional<double> NumberArgument(const nlohmann::json& arguments, std::string_view name) {
  const nlohmann::json* const value = FindArgument(arguments, name);
  return value != nullptr && value->is_number() ? std::optional(value->get<double>()) : std::nullopt;
}

std::optional<bool> BooleanArgument(const nlohmann::json& arguments, std::string_view name) {
  const nlohmann::json* const value = FindArgument(arguments, name);
  return value != nullptr && value->is_boolean() ? std::optional(value->get<bool>()) : std::nullopt;
}

std::optional<std::string_view> StringArgument(const nlohmann::json& arguments, std::string_view name) {
  const nlohmann::json* const value = FindArgument(arguments, name);
  if (value == nullptr || !value->is_string()) {
    return std::nullopt;
  }
  return *value->get_ptr<const std::string*>();
}

}  // namespace slipway::engine
