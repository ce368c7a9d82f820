// PickleMachine: scalars and containers.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

#include "common/error.h"
#include "worker/engine/checkpoint/pickle_machine.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMaximumItems = std::size_t{1} << 25;  // elements of containers alive at once: 512 MiB
constexpr std::size_t kMaximumNodes = std::size_t{1} << 22;  // lists, dictionaries and objects alive at once: 256 MiB
constexpr std::uint16_t kMaximumDepth = 1000;
constexpr std::size_t kMaximumTextBytes = std::size_t{1} << 31;
constexpr std::size_t kMaximumNumberDigits = 10'000;

}  // namespace

absl::Status PickleMachine::ExecuteScalar(const PickleInstruction& instruction) {
  switch (instruction.opcode) {
    using enum PickleOpcode;
    case kNone:
      return Push({});
    case kNewTrue:
    case kNewFalse: {
      PickleValue value;
      value.kind_ = Kind::kBoolean;
      value.integer_ = instruction.opcode == kNewTrue ? 1 : 0;
      return Push(value);
    }
    case kBinInt:
      return PushInteger(static_cast<std::int32_t>(instruction.number));
    case kBinInt1:
    case kBinInt2:
      return PushInteger(static_cast<std::int64_t>(instruction.number));
    case kLong1:
    case kLong4:
      return PushLong(instruction.text);
    case kInt:
    case kLong:
      return PushDecimal(instruction.text);
    case kFloat:
      return PushFloat(instruction.text);
    case kBinFloat: {
      PickleValue value;
      value.kind_ = Kind::kFloat;
      value.number_ = std::bit_cast<double>(__builtin_bswap64(instruction.number));  // stored big-endian
      return Push(value);
    }
    case kString:
    case kUnicode:
      return PushLine(instruction);
    case kShortBinUnicode:
    case kBinUnicode:
    case kBinUnicode8:
    case kBinString:  // Python 2's str is text here
    case kShortBinString:
      return PushText(Kind::kText, instruction.text);
    case kShortBinBytes:
    case kBinBytes:
    case kBinBytes8:
    case kByteArray8:
      return PushText(Kind::kBytes, instruction.text);
    default:
      return Corrupt(
          fmt::format("pickle opcode 0x{:02x} has no place in a checkpoint", static_cast<int>(instruction.opcode)));
  }
}

absl::Status PickleMachine::PushText(Kind kind, std::string_view text) {
  if (text.size() > kMaximumTextBytes) {
    return Limit(fmt::format("a text of {} bytes", text.size()));
  }
  PickleValue value;
  value.kind_ = kind;
  value.length_ = static_cast<std::uint32_t>(text.size());
  value.start_ =
      static_cast<std::uint64_t>(text.data() - reinterpret_cast<const char*>(document_.window_.bytes().data()));
  return Push(value);
}

// Protocol 0: STRING is quoted, UNICODE is not, and both write some characters as escapes. No checkpoint has those.
absl::Status PickleMachine::PushLine(const PickleInstruction& instruction) {
  std::string_view text = instruction.text;
  if (instruction.opcode == PickleOpcode::kString) {
    if (text.size() < 2 || text.front() != text.back() || (text.front() != '\'' && text.front() != '"')) {
      return Corrupt("a text without quotes where the pickle needs them");
    }
    text = text.substr(1, text.size() - 2);
  }
  return text.find('\\') == std::string_view::npos ? PushText(Kind::kText, text)
                                                   : Corrupt("a text with escapes of pickle protocol 0");
}

absl::Status PickleMachine::PushInteger(std::int64_t integer) {
  PickleValue value;
  value.kind_ = Kind::kInteger;
  value.integer_ = integer;
  return Push(value);
}

absl::Status PickleMachine::PushLong(std::string_view little_endian) {
  if (little_endian.size() > sizeof(std::int64_t)) {
    return PushText(Kind::kBigInteger, little_endian);
  }
  const bool negative = !little_endian.empty() && (static_cast<unsigned char>(little_endian.back()) & 0x80U) != 0;
  std::int64_t integer = negative ? -1 : 0;
  std::memcpy(&integer, little_endian.data(), little_endian.size());
  return PushInteger(integer);
}

absl::Status PickleMachine::PushDecimal(std::string_view digits) {
  if (digits == "00" || digits == "01") {  // protocol 0's booleans
    return ExecuteScalar(
        {.opcode = digits == "01" ? PickleOpcode::kNewTrue : PickleOpcode::kNewFalse, .text = {}, .more_text = {}});
  }
  const std::string_view plain = digits.ends_with('L') ? digits.substr(0, digits.size() - 1) : digits;
  std::int64_t integer = 0;
  const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), integer);
  if (error == std::errc::result_out_of_range && plain.size() <= kMaximumNumberDigits) {
    return PushText(Kind::kBigInteger, plain);
  }
  if (error != std::errc() || end != plain.data() + plain.size()) {
    return Corrupt("not a number where the pickle has one");
  }
  return PushInteger(integer);
}

absl::Status PickleMachine::PushFloat(std::string_view digits) {
  PickleValue value;
  value.kind_ = Kind::kFloat;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value.number_);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    return Corrupt("not a number where the pickle has one");
  }
  return Push(value);
}

absl::Status PickleMachine::ExecuteContainer(const PickleInstruction& instruction) {
  switch (instruction.opcode) {
    using enum PickleOpcode;
    case kEmptyTuple:
      return MakeTuple(stack_.size());
    case kTuple1:
    case kTuple2:
    case kTuple3: {
      const std::size_t count =
          static_cast<std::size_t>(instruction.opcode) - static_cast<std::size_t>(kTuple1) + std::size_t{1};
      if (stack_.size() - (marks_.empty() ? 0 : marks_.back()) < count) {
        return Corrupt("the pickle takes more from its stack than it put there");
      }
      return MakeTuple(stack_.size() - count);
    }
    case kTuple: {
      SLIPWAY_ASSIGN_OR_RETURN(const std::size_t first, PopMark());
      return MakeTuple(first);
    }
    case kEmptyList:
    case kEmptySet:
    case kEmptyDict: {
      SLIPWAY_ASSIGN_OR_RETURN(const PickleValue value,
                               NewNode(instruction.opcode == kEmptyDict ? Kind::kDictionary : Kind::kList));
      return Push(value);
    }
    case kList:
    case kFrozenSet:
    case kDict: {
      SLIPWAY_ASSIGN_OR_RETURN(const std::size_t first, PopMark());
      const bool is_dictionary = instruction.opcode == kDict;
      SLIPWAY_ASSIGN_OR_RETURN(const PickleValue value, NewNode(is_dictionary ? Kind::kDictionary : Kind::kList));
      if (is_dictionary && (stack_.size() - first) % 2 != 0) {
        return Corrupt("a dictionary key without a value");
      }
      SLIPWAY_RETURN_IF_ERROR(Extend(value, std::span(stack_).subspan(first)));
      stack_.resize(first);
      return Push(value);
    }
    case kAppend:
    case kSetItem: {
      const std::size_t count = instruction.opcode == kAppend ? 1 : 2;
      if (stack_.size() - (marks_.empty() ? 0 : marks_.back()) < count + 1) {
        return Corrupt("the pickle takes more from its stack than it put there");
      }
      return ExtendFromStack(stack_.size() - count, instruction.opcode == kAppend ? Kind::kList : Kind::kDictionary);
    }
    default: {  // kAppends, kAddItems, kSetItems
      SLIPWAY_ASSIGN_OR_RETURN(const std::size_t first, PopMark());
      return ExtendFromStack(first, instruction.opcode == kSetItems ? Kind::kDictionary : Kind::kList);
    }
  }
}

std::uint16_t PickleMachine::DepthOf(PickleValue value) const {
  const Node* const node = document_.NodeOf(value);
  return node == nullptr ? value.depth_ : node->depth;
}

absl::Status PickleMachine::PushAlias(PickleValue value) {
  if (document_.NodeOf(value) != nullptr) {
    document_.nodes_[value.start_].shared = true;
    ++pins_;
  }
  return Push(value);
}

absl::Status PickleMachine::Deepen(std::uint16_t& depth, std::uint16_t below) const {
  if (below >= kMaximumDepth) {
    return Limit(fmt::format("the pickle nests values more than {} deep", kMaximumDepth));
  }
  depth = std::max(depth, static_cast<std::uint16_t>(below + 1));
  return absl::OkStatus();
}

absl::Status PickleMachine::MakeTuple(std::size_t first) {
  PickleValue tuple;
  tuple.kind_ = Kind::kTuple;
  tuple.start_ = document_.items_.size();
  tuple.length_ = static_cast<std::uint32_t>(stack_.size() - first);
  if (document_.items_.size() + tuple.length_ > kMaximumItems) {
    return Limit(fmt::format("the pickle holds more than {} values", kMaximumItems));
  }
  for (std::size_t i = first; i < stack_.size(); ++i) {
    SLIPWAY_RETURN_IF_ERROR(Deepen(tuple.depth_, DepthOf(stack_[i])));
    document_.items_.push_back(stack_[i]);
  }
  stack_.resize(first);
  return Push(tuple);
}

absl::StatusOr<PickleValue> PickleMachine::NewNode(Kind kind) {
  if (document_.nodes_.size() == kMaximumNodes) {
    return Limit(fmt::format("the pickle holds more than {} containers", kMaximumNodes));
  }
  PickleValue value;
  value.kind_ = kind;
  value.start_ = document_.nodes_.size();
  Node& node = document_.nodes_.emplace_back();
  node.first_item = static_cast<std::uint32_t>(document_.items_.size());
  node.items_before = node.first_item;
  node.pins_before = pins_;
  return value;
}

absl::Status PickleMachine::ExtendFromStack(std::size_t first, Kind kind) {
  if (first == 0 || (!marks_.empty() && marks_.back() >= first)) {
    return Corrupt("the pickle adds items to nothing");
  }
  const PickleValue container = stack_[first - 1];
  const std::span<const PickleValue> values = std::span(stack_).subspan(first);
  if (kind == Kind::kDictionary && values.size() % 2 != 0) {
    return Corrupt("a dictionary key without a value");
  }
  if (container.kind_ == kind) {
    SLIPWAY_RETURN_IF_ERROR(Extend(container, values));
  } else if (container.kind_ != Kind::kObject) {  // an opaque subclass of list or dict: its items are not kept
    return Corrupt("the pickle adds items to something that has none");
  }
  stack_.resize(first);
  return absl::OkStatus();
}

absl::Status PickleMachine::Extend(PickleValue container, std::span<const PickleValue> values) {
  Node& node = document_.nodes_[container.start_];
  std::vector<PickleValue>& items = document_.items_;
  for (const PickleValue& value : values) {
    SLIPWAY_RETURN_IF_ERROR(Deepen(node.depth, DepthOf(value)));
  }
  const std::size_t count = node.item_count + values.size();
  if (count > node.item_capacity) {
    const bool is_last = node.first_item + std::size_t{node.item_capacity} == items.size();
    const std::size_t capacity =
        is_last || node.item_count == 0 ? count : std::max(count, std::size_t{2} * node.item_count);
    const std::size_t first = is_last ? node.first_item : items.size();
    if (first + capacity > kMaximumItems) {
      return Limit(fmt::format("the pickle holds more than {} values", kMaximumItems));
    }
    items.resize(first + capacity);
    std::copy_n(items.begin() + node.first_item, node.item_count, items.begin() + static_cast<std::ptrdiff_t>(first));
    node.first_item = static_cast<std::uint32_t>(first);
    node.item_capacity = static_cast<std::uint32_t>(capacity);
    Touch(node);
  }
  std::ranges::copy(values, items.begin() + node.first_item + node.item_count);
  node.item_count = static_cast<std::uint32_t>(count);
  Touch(node);  // what was added must stay as long as the node may be reached
  return absl::OkStatus();
}

}  // namespace slipway::engine
