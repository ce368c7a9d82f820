// PickleMachine: globals by name, instances by name, persistent ids.
#include <fmt/format.h>

#include <array>

#include "common/error.h"
#include "worker/engine/checkpoint/pickle_globals.h"
#include "worker/engine/checkpoint/pickle_machine.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMaximumClasses = 1 << 16;
constexpr std::size_t kMaximumSideText = std::size_t{1} << 26;
constexpr std::size_t kMaximumNameInMessage = 200;

}  // namespace

absl::Status PickleMachine::ExecuteObject(const PickleInstruction& instruction) {
  switch (instruction.opcode) {
    using enum PickleOpcode;
    case kGlobal:
      return PushClass(instruction.text, instruction.more_text);
    case kInst:  // protocol 0 only; named before it is refused
      SLIPWAY_RETURN_IF_ERROR(PushClass(instruction.text, instruction.more_text));
      return Corrupt("pickle opcode INST has no place in a checkpoint");
    case kStackGlobal: {
      SLIPWAY_ASSIGN_OR_RETURN(const PickleValue name, Pop());
      SLIPWAY_ASSIGN_OR_RETURN(const PickleValue module, Pop());
      if (name.kind_ != Kind::kText || module.kind_ != Kind::kText) {
        return Corrupt("a global whose name is no text");
      }
      return PushClass(*document_.Text(module), *document_.Text(name));
    }
    case kReduce:
    case kNewObj: {
      SLIPWAY_ASSIGN_OR_RETURN(const PickleValue arguments, Pop());
      SLIPWAY_ASSIGN_OR_RETURN(const PickleValue callee, Pop());
      return Instantiate(callee, arguments);
    }
    case kNewObjEx: {  // class, arguments, keyword arguments
      SLIPWAY_RETURN_IF_ERROR(Pop().status());
      SLIPWAY_ASSIGN_OR_RETURN(const PickleValue arguments, Pop());
      SLIPWAY_ASSIGN_OR_RETURN(const PickleValue callee, Pop());
      return Instantiate(callee, arguments);
    }
    case kBinPersistentId:
      return PushPersistent();
    default:
      return Build();
  }
}

absl::Status PickleMachine::PushClass(std::string_view module, std::string_view name) {
  PickleValue value;
  value.kind_ = Kind::kClass;
  const auto known = class_indices_.find({module, name});
  if (known != class_indices_.end()) {
    value.start_ = known->second;
    return Push(value);
  }
  const std::optional<PickleForm> form = FormOfGlobal(module, name);
  if (!form) {
    return Fail(Reason::kPickleForbiddenGlobal,
                fmt::format("the pickle names {}.{}, which no checkpoint needs",
                            module.substr(0, kMaximumNameInMessage), name.substr(0, kMaximumNameInMessage)));
  }
  if (document_.classes_.size() == kMaximumClasses) {
    return Limit(fmt::format("the pickle names more than {} globals", kMaximumClasses));
  }
  value.start_ = document_.classes_.size();
  class_forms_.push_back(*form);
  document_.classes_.push_back({.module = module, .name = name});
  class_indices_.emplace(std::pair(module, name), static_cast<std::uint32_t>(value.start_));
  return Push(value);
}

absl::Status PickleMachine::Instantiate(PickleValue callee, PickleValue arguments) {
  if (callee.kind_ != Kind::kClass) {
    return Corrupt("the pickle calls something that is no global");
  }
  if (arguments.kind_ != Kind::kTuple) {
    return Corrupt("the pickle calls a global without a tuple of arguments");
  }
  const PickleForm form = class_forms_[callee.start_];
  const std::span<const PickleValue> items = document_.Items(arguments);
  const PickleValue first = items.empty() ? PickleValue() : items[0];
  const auto class_index = static_cast<std::uint32_t>(callee.start_);
  switch (form) {
    case PickleForm::kOpaque:
      return PushObject(class_index, arguments);
    case PickleForm::kInstance:
      return first.kind_ == Kind::kClass ? PushObject(static_cast<std::uint32_t>(first.start_), arguments)
                                         : Corrupt("copyreg._reconstructor without a class");
    case PickleForm::kFirst:
      return items.empty() ? Corrupt("a parameter without its tensor") : PushAlias(first);
    case PickleForm::kBytes:
      return InstantiateBytes(items);
    case PickleForm::kTuple:
      if (items.empty()) {
        return Push(arguments);
      }
      if (first.kind_ == Kind::kTuple) {
        return PushAlias(first);
      }
      [[fallthrough]];
    case PickleForm::kSequence:
    case PickleForm::kDictionary: {
      const bool is_dictionary = form == PickleForm::kDictionary;
      if (items.size() == 1 && first.kind_ == (is_dictionary ? Kind::kDictionary : Kind::kList)) {
        return PushAlias(first);
      }
      SLIPWAY_ASSIGN_OR_RETURN(const PickleValue made, NewNode(is_dictionary ? Kind::kDictionary : Kind::kList));
      // A list of values, or of pairs; `elements` is copied because Extend may move what it views.
      const std::span<const PickleValue> view = document_.Items(first);
      const std::vector<PickleValue> elements(view.begin(), view.end());
      for (const PickleValue& element : elements) {
        const std::span<const PickleValue> pair = document_.Items(element);
        if (is_dictionary && pair.size() != 2) {
          return Corrupt("a dictionary made of something that is no pair");
        }
        const std::array<PickleValue, 2> values = {is_dictionary ? pair[0] : element,
                                                   is_dictionary ? pair[1] : element};
        SLIPWAY_RETURN_IF_ERROR(Extend(made, std::span(values).first(is_dictionary ? 2 : 1)));
      }
      return Push(made);
    }
  }
  return Corrupt("a global of no form");
}

// _codecs.encode(text, "latin1") is how protocol 2 writes bytes: every character is one byte, below 256.
absl::Status PickleMachine::InstantiateBytes(std::span<const PickleValue> arguments) {
  if (arguments.empty()) {
    return PushSideText(Kind::kBytes, {});
  }
  if (arguments[0].kind_ == Kind::kBytes) {
    return PushAlias(arguments[0]);
  }
  const std::optional<std::string_view> text = document_.Text(arguments[0]);
  if (!text) {
    return Corrupt("bytes made of something that is no text");
  }
  std::string bytes;
  bytes.reserve(text->size());
  for (std::size_t i = 0; i < text->size(); ++i) {
    const auto lead = static_cast<unsigned char>((*text)[i]);
    if (lead < 0x80) {
      bytes.push_back(static_cast<char>(lead));
      continue;
    }
    const auto next = i + 1 < text->size() ? static_cast<unsigned char>((*text)[i + 1]) : 0U;
    if ((lead != 0xc2 && lead != 0xc3) || (next & 0xc0U) != 0x80) {
      return Corrupt("bytes made of a character that is no byte");
    }
    bytes.push_back(static_cast<char>(((lead & 0x03U) << 6) | (next & 0x3fU)));
    ++i;
  }
  return PushSideText(Kind::kBytes, bytes);
}

absl::Status PickleMachine::PushSideText(Kind kind, std::string_view text) {
  if (text.size() > kMaximumSideText - document_.side_text_.size()) {
    return Limit(fmt::format("the pickle re-encodes more than {} bytes", kMaximumSideText));
  }
  PickleValue value;
  value.kind_ = kind;
  value.in_side_text_ = true;
  value.length_ = static_cast<std::uint32_t>(text.size());
  value.start_ = document_.side_text_.size();
  document_.side_text_ += text;
  return Push(value);
}

absl::Status PickleMachine::PushObject(std::uint32_t class_index, PickleValue arguments) {
  SLIPWAY_ASSIGN_OR_RETURN(const PickleValue value, NewNode(Kind::kObject));
  Node& node = document_.nodes_.back();
  node.class_index = class_index;
  node.arguments = arguments;
  SLIPWAY_RETURN_IF_ERROR(Deepen(node.depth, DepthOf(arguments)));
  return Push(value);
}

absl::Status PickleMachine::PushPersistent() {
  SLIPWAY_ASSIGN_OR_RETURN(const PickleValue id, Pop());
  const std::span<const PickleValue> items = document_.Items(id);
  if (!options_.allow_persistent_ids || id.kind_ != Kind::kTuple || items.empty() ||
      document_.Text(items[0]) != "storage") {
    return Corrupt("a persistent id that is no storage");
  }
  SLIPWAY_ASSIGN_OR_RETURN(const PickleValue value, NewNode(Kind::kPersistent));
  document_.nodes_.back().arguments = id;
  return Push(value);
}

absl::Status PickleMachine::Build() {
  SLIPWAY_ASSIGN_OR_RETURN(const PickleValue state, Pop());
  SLIPWAY_ASSIGN_OR_RETURN(const PickleValue target, Pop());
  if (target.kind_ != Kind::kObject) {
    // An OrderedDict's attributes, or of a value whose class is not kept: of no use.
    return target.kind_ == Kind::kDictionary || target.kind_ == Kind::kList
               ? Push(target)
               : Corrupt("the pickle gives a state to something that has none");
  }
  Node& node = document_.nodes_[target.start_];
  if (options_.folder != nullptr) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::optional<PickleValue> folded,
                             options_.folder->Fold(document_, document_.classes_[node.class_index], state));
    if (folded && node.pins_before == pins_) {
      document_.items_.resize(node.items_before);
      document_.nodes_.resize(target.start_);
    } else if (folded) {
      node.state = *folded;  // the memo may still give out the object itself
    }
    if (folded) {
      return Push(*folded);
    }
  }
  SLIPWAY_RETURN_IF_ERROR(Deepen(node.depth, DepthOf(state)));
  node.state = state;
  Touch(node);
  return Push(target);
}

}  // namespace slipway::engine
