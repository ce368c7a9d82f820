// Writes pickles for tests: the opcodes that Python uses, one function each. Bytes in, no checks: tests also need
// pickles that are wrong.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace slipway::test {

class PickleWriter {
 public:
  // Protocol 2 (inside torch archives) or 4 (the index of torch.distributed.checkpoint).
  explicit PickleWriter(int protocol);

  PickleWriter& None();
  PickleWriter& Boolean(bool value);
  PickleWriter& Integer(std::int64_t value);
  PickleWriter& Float(double value);
  PickleWriter& Text(std::string_view text);
  PickleWriter& Global(std::string_view module, std::string_view name);
  PickleWriter& Mark();
  PickleWriter& Tuple();  // of the values since the mark
  PickleWriter& EmptyTuple();
  PickleWriter& EmptyList();
  PickleWriter& Appends();  // the values since the mark
  PickleWriter& EmptyDictionary();
  PickleWriter& SetItems();  // the keys and values since the mark
  PickleWriter& NewObject();
  PickleWriter& Reduce();
  PickleWriter& Build();
  PickleWriter& PersistentId();
  PickleWriter& Raw(std::string_view opcodes);

  // Ends the pickle and returns it.
  [[nodiscard]] std::string Finish();

 private:
  template <typename Number>
  void Little(Number value);
  int protocol_;
  std::string bytes_;
};

}  // namespace slipway::test
