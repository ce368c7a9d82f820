#include "worker/engine/checkpoint/pickle_reader.h"

#include <array>
#include <cstring>

namespace slipway::engine {
namespace {

// How an opcode's argument is laid out.
enum class Argument : std::uint8_t {
  kUnknown,  // no such opcode
  kNothing,
  kFixed1,
  kFixed2,
  kFixed4,
  kFixed8,
  kCounted1,  // a count of that many bytes, then the bytes
  kCounted4,
  kCounted8,
  kLine,
  kTwoLines,
};

constexpr std::array<Argument, 256> MakeArguments() {
  std::array<Argument, 256> table = {};
  using enum PickleOpcode;
  const auto set = [&table](Argument argument, auto... opcodes) {
    ((table[static_cast<std::uint8_t>(opcodes)] = argument), ...);
  };
  set(Argument::kNothing, kMark, kStop, kPop, kPopMark, kDup, kNone, kBinPersistentId, kReduce, kAppend, kBuild, kDict,
      kEmptyDict, kAppends, kList, kEmptyList, kObj, kSetItem, kTuple, kEmptyTuple, kSetItems, kNewObj, kTuple1,
      kTuple2, kTuple3, kNewTrue, kNewFalse, kEmptySet, kAddItems, kFrozenSet, kNewObjEx, kStackGlobal, kMemoize,
      kNextBuffer, kReadOnlyBuffer);
  set(Argument::kFixed1, kBinInt1, kBinGet, kBinPut, kProto, kExt1);
  set(Argument::kFixed2, kBinInt2, kExt2);
  set(Argument::kFixed4, kBinInt, kLongBinGet, kLongBinPut, kExt4);
  set(Argument::kFixed8, kBinFloat, kFrame);
  set(Argument::kCounted1, kShortBinString, kLong1, kShortBinBytes, kShortBinUnicode);
  set(Argument::kCounted4, kBinString, kBinUnicode, kLong4, kBinBytes);
  set(Argument::kCounted8, kBinUnicode8, kBinBytes8, kByteArray8);
  set(Argument::kLine, kFloat, kInt, kLong, kPersistentId, kString, kUnicode, kGet, kPut);
  set(Argument::kTwoLines, kGlobal, kInst);
  return table;
}

constexpr std::array<Argument, 256> kArguments = MakeArguments();

}  // namespace

template <typename Number>
bool PickleReader::Fixed(std::uint64_t& number) {
  if (bytes_.size() - position_ < sizeof(Number)) {
    return false;
  }
  Number value = 0;
  std::memcpy(&value, bytes_.data() + position_, sizeof(value));  // little-endian machines only, as all of the engine
  number = value;
  position_ += sizeof(value);
  return true;
}

bool PickleReader::Counted(std::uint64_t size, std::string_view& text) {
  if (bytes_.size() - position_ < size) {
    return false;
  }
  text = {reinterpret_cast<const char*>(bytes_.data()) + position_, static_cast<std::size_t>(size)};
  position_ += static_cast<std::size_t>(size);
  return true;
}

bool PickleReader::Line(std::string_view& text) {
  const auto* const start = reinterpret_cast<const char*>(bytes_.data()) + position_;
  const void* const end = position_ < bytes_.size() ? std::memchr(start, '\n', bytes_.size() - position_) : nullptr;
  if (end == nullptr) {
    return false;
  }
  text = {start, static_cast<std::size_t>(static_cast<const char*>(end) - start)};
  position_ += text.size() + 1;
  return true;
}

PickleReader::Result PickleReader::Next(PickleInstruction& instruction) {
  if (position_ >= bytes_.size()) {
    return Result::kEnd;
  }
  instruction.position = position_;
  const auto code = static_cast<std::uint8_t>(bytes_[position_++]);
  instruction.opcode = static_cast<PickleOpcode>(code);
  std::uint64_t& number = instruction.number;
  bool whole = true;
  switch (kArguments[code]) {
    case Argument::kUnknown:
      return Result::kUnknownOpcode;
    case Argument::kNothing:
      break;
    case Argument::kFixed1:
      whole = Fixed<std::uint8_t>(number);
      break;
    case Argument::kFixed2:
      whole = Fixed<std::uint16_t>(number);
      break;
    case Argument::kFixed4:
      whole = Fixed<std::uint32_t>(number);
      break;
    case Argument::kFixed8:
      whole = Fixed<std::uint64_t>(number);
      break;
    case Argument::kCounted1:
      whole = Fixed<std::uint8_t>(number) && Counted(number, instruction.text);
      break;
    case Argument::kCounted4:
      whole = Fixed<std::uint32_t>(number) && Counted(number, instruction.text);
      break;
    case Argument::kCounted8:
      whole = Fixed<std::uint64_t>(number) && Counted(number, instruction.text);
      break;
    case Argument::kLine:
      whole = Line(instruction.text);
      break;
    case Argument::kTwoLines:
      whole = Line(instruction.text) && Line(instruction.more_text);
      break;
  }
  return whole ? Result::kInstruction : Result::kCutShort;
}

}  // namespace slipway::engine
