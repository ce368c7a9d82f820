// The instructions of a pickle, one after the other: opcode and argument, bounds checked, nothing interpreted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace slipway::engine {

// Python's names and values (Lib/pickle.py).
enum class PickleOpcode : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kFloat = 'F',
  kInt = 'I',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kLong = 'L',
  kBinInt2 = 'M',
  kNone = 'N',
  kPersistentId = 'P',
  kBinPersistentId = 'Q',
  kReduce = 'R',
  kString = 'S',
  kBinString = 'T',
  kShortBinString = 'U',
  kUnicode = 'V',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kDict = 'd',
  kEmptyDict = '}',
  kAppends = 'e',
  kGet = 'g',
  kBinGet = 'h',
  kInst = 'i',
  kLongBinGet = 'j',
  kList = 'l',
  kEmptyList = ']',
  kObj = 'o',
  kPut = 'p',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kBinFloat = 'G',
  kProto = 0x80,
  kNewObj = 0x81,
  kExt1 = 0x82,
  kExt2 = 0x83,
  kExt4 = 0x84,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kNewObjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
  kByteArray8 = 0x96,
  kNextBuffer = 0x97,
  kReadOnlyBuffer = 0x98,
};

struct PickleInstruction {
  PickleOpcode opcode = PickleOpcode::kStop;
  std::size_t position = 0;    // of the opcode
  std::uint64_t number = 0;    // fixed-size argument, little-endian (kBinFloat: its bits as they lie there)
  std::string_view text;       // counted or newline-terminated argument, a view of the bytes
  std::string_view more_text;  // the second line of kGlobal and kInst
};

// Borrows the bytes.
class PickleReader {
 public:
  explicit PickleReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  enum class Result { kInstruction, kEnd, kCutShort, kUnknownOpcode };
  Result Next(PickleInstruction& instruction);
  [[nodiscard]] std::size_t position() const { return position_; }

 private:
  template <typename Number>
  bool Fixed(std::uint64_t& number);
  bool Counted(std::uint64_t size, std::string_view& text);
  bool Line(std::string_view& text);

  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
};

}  // namespace slipway::engine
