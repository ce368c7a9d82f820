#include "worker/engine/checkpoint/pickle_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "common/error.h"

namespace slipway::engine {
namespace {

// Far above what training frameworks write (their largest containers come in batches of 1000), far below what would
// exhaust memory.
constexpr std::uint64_t kMaximumPickleBytes = std::uint64_t{4} << 30;
constexpr std::size_t kMaximumMarks = 10'000;
constexpr std::uint8_t kMaximumProtocol = 5;

// Of protocol 0, which writes it in digits; past every bound where it is no number.
std::uint64_t MemoNumber(const PickleInstruction& instruction) {
  std::uint64_t number = 0;
  const char* const end = instruction.text.data() + instruction.text.size();
  const auto [stop, error] = std::from_chars(instruction.text.data(), end, number);
  return error == std::errc() && stop == end ? number : kMaximumPickleBytes;
}

}  // namespace

PickleMachine::PickleMachine(Window window, const PickleOptions& options) : options_(options) {
  document_.window_ = std::move(window);
}

absl::Status PickleMachine::Fail(Reason reason, std::string_view message) const {
  return Error(reason, message,
               {.file = options_.file, .offset = options_.file_position + static_cast<std::int64_t>(position_)});
}

absl::StatusOr<PickleDocument> PickleMachine::Run() {
  if (document_.window_.bytes().size() > kMaximumPickleBytes) {
    return Limit(fmt::format("a pickle of more than {} bytes", kMaximumPickleBytes));
  }
  SLIPWAY_RETURN_IF_ERROR(FindFetchedNumbers());
  PickleReader reader(document_.window_.bytes());
  PickleInstruction instruction;
  do {
    // The bytes may have changed since the first pass: everything is checked again.
    if (reader.Next(instruction) != PickleReader::Result::kInstruction) {
      return Corrupt("the pickle is cut short");
    }
    position_ = instruction.position;
    SLIPWAY_RETURN_IF_ERROR(Execute(instruction));
  } while (instruction.opcode != PickleOpcode::kStop);
  SLIPWAY_ASSIGN_OR_RETURN(document_.root_, Pop());
  if (!stack_.empty() || !marks_.empty()) {
    return Corrupt("the pickle leaves values on its stack");
  }
  document_.length_ = static_cast<std::int64_t>(reader.position());
  SLIPWAY_RETURN_IF_ERROR(document_.window_.Check());
  return std::move(document_);
}

absl::Status PickleMachine::FindFetchedNumbers() {
  PickleReader reader(document_.window_.bytes());
  for (PickleInstruction instruction;;) {
    const PickleReader::Result result = reader.Next(instruction);
    position_ = instruction.position;
    if (result == PickleReader::Result::kUnknownOpcode) {
      return Corrupt(fmt::format("no pickle opcode: 0x{:02x}", static_cast<int>(instruction.opcode)));
    }
    if (result != PickleReader::Result::kInstruction) {
      return Corrupt("the pickle is cut short");
    }
    std::uint64_t number = instruction.number;
    switch (instruction.opcode) {
      case PickleOpcode::kStop:
        memo_.Seal();
        return absl::OkStatus();
      case PickleOpcode::kGet:
        number = MemoNumber(instruction);
        [[fallthrough]];
      case PickleOpcode::kBinGet:
      case PickleOpcode::kLongBinGet:
        // Every entry takes at least a byte to make, so numbers stay below the size.
        if (number >= document_.window_.bytes().size()) {
          return Corrupt("the pickle fetches a memo entry that it never made");
        }
        memo_.Fetch(number);
        break;
      default:
        break;
    }
  }
}

absl::Status PickleMachine::Execute(const PickleInstruction& instruction) {
  switch (instruction.opcode) {
    using enum PickleOpcode;
    case kStop:
    case kFrame:  // a hint for buffering
      return absl::OkStatus();
    case kProto:
      return instruction.number <= kMaximumProtocol
                 ? absl::OkStatus()
                 : Corrupt(fmt::format("pickle protocol {} is not known", instruction.number));
    case kMark:
      if (marks_.size() == kMaximumMarks) {
        return Limit(fmt::format("the pickle nests more than {} deep", kMaximumMarks));
      }
      marks_.push_back(stack_.size());
      return absl::OkStatus();
    case kPop:
      // As Python has it: POP directly above a mark takes the mark.
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
        return absl::OkStatus();
      }
      return Pop().status();
    case kPopMark: {
      SLIPWAY_ASSIGN_OR_RETURN(const std::size_t first, PopMark());
      stack_.resize(first);
      return absl::OkStatus();
    }
    case kDup: {
      SLIPWAY_ASSIGN_OR_RETURN(const PickleValue top, Pop());
      ++pins_;
      SLIPWAY_RETURN_IF_ERROR(Push(top));
      return Push(top);
    }
    case kMemoize:
      return Memoize(next_memo_);
    case kBinPut:
    case kLongBinPut:
      return Memoize(instruction.number);
    case kPut:
      return Memoize(MemoNumber(instruction));
    case kGet:
    case kBinGet:
    case kLongBinGet: {
      const std::optional<PickleValue> value =
          memo_.Load(instruction.opcode == kGet ? MemoNumber(instruction) : instruction.number);
      return value ? Push(*value) : Corrupt("the pickle fetches a memo entry that it never made");
    }
    case kGlobal:
    case kStackGlobal:
    case kReduce:
    case kNewObj:
    case kNewObjEx:
    case kBuild:
    case kBinPersistentId:
    case kInst:
      return ExecuteObject(instruction);
    case kEmptyTuple:
    case kTuple:
    case kTuple1:
    case kTuple2:
    case kTuple3:
    case kEmptyList:
    case kEmptyDict:
    case kEmptySet:
    case kFrozenSet:
    case kList:
    case kDict:
    case kAppend:
    case kAppends:
    case kAddItems:
    case kSetItem:
    case kSetItems:
      return ExecuteContainer(instruction);
    default:
      return ExecuteScalar(instruction);
  }
}

absl::Status PickleMachine::StackIsFull() const {
  return Limit(fmt::format("the pickle stacks more than {} values", kMaximumStack));
}

absl::Status PickleMachine::StackIsEmpty() const {
  return Corrupt("the pickle takes more from its stack than it put there");
}

absl::StatusOr<std::size_t> PickleMachine::PopMark() {
  if (marks_.empty()) {
    return Corrupt("the pickle goes back to a mark that it never set");
  }
  const std::size_t first = marks_.back();
  marks_.pop_back();
  return first;
}

absl::Status PickleMachine::Memoize(std::uint64_t number) {
  SLIPWAY_ASSIGN_OR_RETURN(const PickleValue value, Pop());
  next_memo_ = std::max(next_memo_, number + 1);
  if (memo_.Store(number, value)) {
    switch (value.kind_) {
      case Kind::kList:
      case Kind::kDictionary:
      case Kind::kObject:
      case Kind::kPersistent:
        document_.nodes_[value.start_].shared = true;
        ++pins_;
        break;
      case Kind::kTuple:
        ++pins_;
        break;
      default:
        break;
    }
  }
  return Push(value);
}

absl::StatusOr<PickleDocument> ParsePickle(Window window, const PickleOptions& options) {
  return PickleMachine(std::move(window), options).Run();
}

}  // namespace slipway::engine
