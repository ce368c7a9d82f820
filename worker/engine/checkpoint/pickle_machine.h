// The pickle machine: a stack of values, marks, a memo, and the arena of the document that is being built.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/reason.h"
#include "worker/engine/checkpoint/pickle.h"
#include "worker/engine/checkpoint/pickle_globals.h"
#include "worker/engine/checkpoint/pickle_memo.h"
#include "worker/engine/checkpoint/pickle_reader.h"

namespace slipway::engine {

// Reads one pickle, once. Reading happens in two passes over the bytes: the first finds what the memo must keep, the
// second builds. Where a folder replaces an object by a record, everything that the object was made of is the newest
// part of the arena and is cut off again, unless something kept in the memo (a "pin") may refer to it.
class PickleMachine {
 public:
  PickleMachine(Window window, const PickleOptions& options);
  absl::StatusOr<PickleDocument> Run();

 private:
  using Kind = PickleValue::Kind;
  using Node = PickleDocument::Node;
  static constexpr std::size_t kMaximumStack = std::size_t{1} << 20;

  absl::Status FindFetchedNumbers();
  absl::Status Execute(const PickleInstruction& instruction);
  absl::Status ExecuteScalar(const PickleInstruction& instruction);
  absl::Status ExecuteContainer(const PickleInstruction& instruction);
  absl::Status ExecuteObject(const PickleInstruction& instruction);

  // Values.
  absl::Status Push(PickleValue value);
  absl::Status PushText(Kind kind, std::string_view text);
  absl::Status PushSideText(Kind kind, std::string_view text);
  absl::Status PushLine(const PickleInstruction& instruction);
  absl::Status PushInteger(std::int64_t integer);
  absl::Status PushLong(std::string_view little_endian);
  absl::Status PushDecimal(std::string_view digits);
  absl::Status PushFloat(std::string_view digits);
  absl::StatusOr<PickleValue> Pop();
  [[nodiscard]] absl::Status StackIsFull() const;
  [[nodiscard]] absl::Status StackIsEmpty() const;
  absl::StatusOr<std::size_t> PopMark();  // the stack's height at the mark

  // Containers.
  absl::Status MakeTuple(std::size_t first);  // of the stack from `first` on
  absl::StatusOr<PickleValue> NewNode(Kind kind);
  absl::Status Extend(PickleValue container, std::span<const PickleValue> values);
  absl::Status ExtendFromStack(std::size_t first, Kind kind);
  absl::Status Deepen(std::uint16_t& depth, std::uint16_t below) const;
  [[nodiscard]] std::uint16_t DepthOf(PickleValue value) const;
  // Pushes a value that something else refers to as well.
  absl::Status PushAlias(PickleValue value);
  void Touch(const Node& node) { pins_ += node.shared ? 1 : 0; }

  // Objects.
  absl::Status PushClass(std::string_view module, std::string_view name);
  absl::Status Instantiate(PickleValue callee, PickleValue arguments);
  absl::Status InstantiateBytes(std::span<const PickleValue> arguments);
  absl::Status PushObject(std::uint32_t class_index, PickleValue arguments);
  absl::Status PushPersistent();
  absl::Status Build();
  absl::Status Memoize(std::uint64_t number);

  [[nodiscard]] absl::Status Fail(Reason reason, std::string_view message) const;
  [[nodiscard]] absl::Status Corrupt(std::string_view message) const {
    return Fail(Reason::kCheckpointCorrupt, message);
  }
  [[nodiscard]] absl::Status Limit(std::string_view message) const { return Fail(Reason::kLimitExceeded, message); }

  const PickleOptions& options_;
  PickleDocument document_;
  PickleMemo memo_;
  std::uint64_t next_memo_ = 0;
  std::vector<PickleValue> stack_;
  std::vector<std::size_t> marks_;
  std::map<std::pair<std::string_view, std::string_view>, std::uint32_t> class_indices_;
  std::vector<PickleForm> class_forms_;  // of the document's classes
  std::uint32_t pins_ = 0;
  std::size_t position_ = 0;  // of the instruction at work, for messages
};

// Millions of times a pickle.
inline absl::Status PickleMachine::Push(PickleValue value) {
  if (stack_.size() == kMaximumStack) {
    return StackIsFull();
  }
  stack_.push_back(value);
  return absl::OkStatus();
}

inline absl::StatusOr<PickleValue> PickleMachine::Pop() {
  if (stack_.empty() || (!marks_.empty() && marks_.back() == stack_.size())) {
    return StackIsEmpty();
  }
  const PickleValue value = stack_.back();
  stack_.pop_back();
  return value;
}

}  // namespace slipway::engine
