#include "tests/support/pickle_writer.h"

#include <bit>
#include <cstddef>
#include <limits>
#include <utility>

namespace slipway::test {
namespace {

constexpr int kProtocolWithStackGlobal = 4;

}  // namespace

PickleWriter::PickleWriter(int protocol) : protocol_(protocol) {
  bytes_ = "\x80";
  bytes_ += static_cast<char>(protocol);
}

template <typename Number>
void PickleWriter::Little(Number value) {
  for (std::size_t i = 0; i < sizeof(Number); ++i) {
    bytes_ += static_cast<char>((static_cast<std::uint64_t>(value) >> (8 * i)) & 0xFF);
  }
}

PickleWriter& PickleWriter::Raw(std::string_view opcodes) {
  bytes_ += opcodes;
  return *this;
}

PickleWriter& PickleWriter::None() { return Raw("N"); }
PickleWriter& PickleWriter::Boolean(bool value) { return Raw(value ? "\x88" : "\x89"); }
PickleWriter& PickleWriter::Mark() { return Raw("("); }
PickleWriter& PickleWriter::Tuple() { return Raw("t"); }
PickleWriter& PickleWriter::EmptyTuple() { return Raw(")"); }
PickleWriter& PickleWriter::EmptyList() { return Raw("]"); }
PickleWriter& PickleWriter::Appends() { return Raw("e"); }
PickleWriter& PickleWriter::EmptyDictionary() { return Raw("}"); }
PickleWriter& PickleWriter::SetItems() { return Raw("u"); }
PickleWriter& PickleWriter::NewObject() { return Raw("\x81"); }
PickleWriter& PickleWriter::Reduce() { return Raw("R"); }
PickleWriter& PickleWriter::Build() { return Raw("b"); }
PickleWriter& PickleWriter::PersistentId() { return Raw("Q"); }

PickleWriter& PickleWriter::Integer(std::int64_t value) {
  if (value >= std::numeric_limits<std::int32_t>::min() && value <= std::numeric_limits<std::int32_t>::max()) {
    bytes_ += 'J';
    Little(static_cast<std::int32_t>(value));
  } else {
    bytes_ += "\x8a\x08";
    Little(value);
  }
  return *this;
}

PickleWriter& PickleWriter::Float(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  bytes_ += 'G';
  for (int shift = 56; shift >= 0; shift -= 8) {
    bytes_ += static_cast<char>((bits >> shift) & 0xFF);
  }
  return *this;
}

PickleWriter& PickleWriter::Text(std::string_view text) {
  bytes_ += 'X';
  Little(static_cast<std::uint32_t>(text.size()));
  return Raw(text);
}

PickleWriter& PickleWriter::Global(std::string_view module, std::string_view name) {
  if (protocol_ >= kProtocolWithStackGlobal) {
    return Text(module).Text(name).Raw("\x93");
  }
  bytes_ += 'c';
  return Raw(module).Raw("\n").Raw(name).Raw("\n");
}

std::string PickleWriter::Finish() {
  bytes_ += '.';
  return std::exchange(bytes_, {});
}

}  // namespace slipway::test
