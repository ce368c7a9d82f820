#include "worker/engine/checkpoint/pickle.h"

namespace slipway::engine {

std::optional<bool> PickleValue::Boolean() const {
  return kind_ == Kind::kBoolean ? std::optional(integer_ != 0) : std::nullopt;
}

std::optional<double> PickleValue::Number() const {
  if (kind_ == Kind::kInteger) {
    return static_cast<double>(integer_);
  }
  return kind_ == Kind::kFloat ? std::optional(number_) : std::nullopt;
}

std::optional<std::uint32_t> PickleValue::Record() const {
  return kind_ == Kind::kRecord ? std::optional(static_cast<std::uint32_t>(start_)) : std::nullopt;
}

PickleValue PickleValue::OfRecord(std::uint32_t record) {
  PickleValue value;
  value.kind_ = Kind::kRecord;
  value.start_ = record;
  return value;
}

const PickleDocument::Node* PickleDocument::NodeOf(PickleValue value) const {
  switch (value.kind_) {
    case PickleValue::Kind::kList:
    case PickleValue::Kind::kDictionary:
    case PickleValue::Kind::kObject:
    case PickleValue::Kind::kPersistent:
      return &nodes_[value.start_];
    default:
      return nullptr;
  }
}

PickleClass PickleDocument::Class(PickleValue value) const {
  if (value.kind_ == PickleValue::Kind::kClass) {
    return classes_[value.start_];
  }
  return value.kind_ == PickleValue::Kind::kObject ? classes_[nodes_[value.start_].class_index] : PickleClass();
}

PickleValue PickleDocument::Arguments(PickleValue value) const {
  const Node* const node = NodeOf(value);
  return node == nullptr ? PickleValue() : node->arguments;
}

PickleValue PickleDocument::State(PickleValue value) const {
  const Node* const node = NodeOf(value);
  return node == nullptr ? PickleValue() : node->state;
}

std::optional<PickleValue> PickleDocument::Find(PickleValue value, std::string_view key) const {
  const bool is_dictionary = value.kind_ == PickleValue::Kind::kDictionary;
  const std::span<const PickleValue> items = Items(is_dictionary ? value : State(value));
  for (std::size_t i = items.size(); i >= 2; i -= 2) {
    if (Text(items[i - 2]) == key) {
      return items[i - 1];
    }
  }
  return std::nullopt;
}

}  // namespace slipway::engine
