// Python pickles as data. A closed interpreter of the pickle machine (protocols 0 to 5): it builds plain values and
// records that carry a class's name, and has no way to import, call or construct anything. A global that is not on the
// closed list (pickle_globals.h) is refused by name: PICKLE_FORBIDDEN_GLOBAL.
//
// Format: Python's Lib/pickletools.py describes every opcode; the forms that checkpoints use are those of torch.save
// and of torch.distributed.checkpoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

class PickleDocument;

// One value, 16 bytes, cheap to copy. Containers and texts are references into the document that made them, so values
// may form cycles and any depth of nesting; destroying a document walks nothing. WHOEVER WALKS VALUES MUST BOUND ITS
// DEPTH AND ITS STEPS.
class PickleValue {
 public:
  enum class Kind : std::uint8_t {
    kNone,
    kBoolean,
    kInteger,     // fits 64 bits
    kBigInteger,  // does not; little-endian two's complement, or decimal digits of protocol 0
    kFloat,
    kText,  // UTF-8, not validated
    kBytes,
    kTuple,       // also torch.Size
    kList,        // also sets
    kDictionary,  // also collections.OrderedDict; keys may repeat in a hostile file: the last one counts
    kClass,       // a global of the list, by name only: a class, function, dtype or storage type
    kObject,      // an instance by name: class, constructor's arguments, state
    kPersistent,  // a persistent id (torch's storages): Arguments() is what was given
    kRecord,      // what a PickleFolder made of an object
    kMark,        // never seen outside the interpreter
  };

  PickleValue() = default;
  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] bool IsNone() const { return kind_ == Kind::kNone; }
  [[nodiscard]] std::optional<bool> Boolean() const;
  // Booleans are not integers here.
  [[nodiscard]] std::optional<std::int64_t> Integer() const;
  // Of a float or an integer.
  [[nodiscard]] std::optional<double> Number() const;
  [[nodiscard]] std::optional<std::uint32_t> Record() const;
  static PickleValue OfRecord(std::uint32_t record);

 private:
  friend class PickleDocument;
  friend class PickleMachine;
  Kind kind_ = Kind::kNone;
  bool in_side_text_ = false;  // text made while parsing, not part of the file
  std::uint16_t depth_ = 0;    // of nesting below, at least
  std::uint32_t length_ = 0;   // of text, bytes, tuples
  union {
    std::int64_t integer_ = 0;
    double number_;
    std::uint64_t start_;  // of text in the file, of a tuple's items, of a node
  };
};
static_assert(sizeof(PickleValue) == 16);

// A dotted name: ("torch", "BFloat16Storage").
struct PickleClass {
  std::string_view module;
  std::string_view name;
  [[nodiscard]] bool Is(std::string_view other_module, std::string_view other_name) const {
    return module == other_module && name == other_name;
  }
};

// The values of one pickle; owns them and the bytes they point into. Movable; reading is thread-safe.
class PickleDocument {
 public:
  [[nodiscard]] PickleValue root() const { return root_; }
  // Elements of a tuple or list; key, value, key, value... of a dictionary; none of anything else.
  [[nodiscard]] std::span<const PickleValue> Items(PickleValue value) const;
  // Of kText; Bytes of kBytes and kBigInteger.
  [[nodiscard]] std::optional<std::string_view> Text(PickleValue value) const;
  [[nodiscard]] std::optional<std::string_view> Bytes(PickleValue value) const;
  // Of kClass and kObject; empty names for anything else.
  [[nodiscard]] PickleClass Class(PickleValue value) const;
  // Constructor's arguments of a kObject (a tuple, or None), persistent id of a kPersistent.
  [[nodiscard]] PickleValue Arguments(PickleValue value) const;
  // What BUILD gave to a kObject; None without. Items that SETITEMS or APPENDS gave to one are not kept.
  [[nodiscard]] PickleValue State(PickleValue value) const;
  // The value of a text key in a dictionary, or in the state dictionary of an object (argparse.Namespace).
  [[nodiscard]] std::optional<PickleValue> Find(PickleValue value, std::string_view key) const;
  // Bytes of the file up to and including STOP.
  [[nodiscard]] std::int64_t length() const { return length_; }

 private:
  friend class PickleMachine;
  struct Node {  // of a list, dictionary, object or persistent id
    PickleValue arguments;
    PickleValue state;
    std::uint32_t first_item = 0;
    std::uint32_t item_count = 0;
    std::uint32_t item_capacity = 0;
    std::uint32_t class_index = 0;
    std::uint32_t items_before = 0;  // PickleMachine: where reclaiming may go back to
    std::uint32_t pins_before = 0;
    std::uint16_t depth = 0;
    bool shared = false;
  };
  [[nodiscard]] const Node* NodeOf(PickleValue value) const;

  Window window_;
  std::vector<PickleValue> items_;
  std::vector<Node> nodes_;
  std::vector<PickleClass> classes_;  // views of the list of globals or of the file
  std::string side_text_;
  PickleValue root_;
  std::int64_t length_ = 0;
};

// Called millions of times for a large index.
inline std::optional<std::int64_t> PickleValue::Integer() const {
  return kind_ == Kind::kInteger ? std::optional(integer_) : std::nullopt;
}

inline std::span<const PickleValue> PickleDocument::Items(PickleValue value) const {
  if (value.kind_ == PickleValue::Kind::kTuple) {
    return std::span(items_).subspan(value.start_, value.length_);
  }
  if (value.kind_ == PickleValue::Kind::kList || value.kind_ == PickleValue::Kind::kDictionary) {
    const Node& node = nodes_[value.start_];
    return std::span(items_).subspan(node.first_item, node.item_count);
  }
  return {};
}

inline std::optional<std::string_view> PickleDocument::Bytes(PickleValue value) const {
  if (value.kind_ != PickleValue::Kind::kBytes && value.kind_ != PickleValue::Kind::kBigInteger) {
    return std::nullopt;
  }
  const char* const base =
      value.in_side_text_ ? side_text_.data() : reinterpret_cast<const char*>(window_.bytes().data());
  return std::string_view(base + value.start_, value.length_);
}

inline std::optional<std::string_view> PickleDocument::Text(PickleValue value) const {
  if (value.kind_ != PickleValue::Kind::kText) {
    return std::nullopt;
  }
  value.kind_ = PickleValue::Kind::kBytes;
  return Bytes(value);
}

// Turns objects into a caller's own compact records while a large pickle is being read, so that their values need not
// stay in memory.
class PickleFolder {
 public:
  virtual ~PickleFolder() = default;
  // Called at BUILD. A value (a record, or None) replaces the object and frees what it was made of; nullopt keeps it.
  // An object that the pickle fetches from its memo later remains one there; its State() is then that value.
  // `state` is valid during the call only. An error ends the parse.
  virtual absl::StatusOr<std::optional<PickleValue>> Fold(const PickleDocument& document, PickleClass name,
                                                          PickleValue state) = 0;
};

struct PickleOptions {
  std::string file;                   // for messages
  std::int64_t file_position = 0;     // of the pickle's first byte in that file, for messages
  bool allow_persistent_ids = false;  // only torch archives have them
  PickleFolder* folder = nullptr;     // not owned
};

// Reads the pickle at the start of `window`; bytes after its STOP are left alone. CHECKPOINT_CORRUPT,
// PICKLE_FORBIDDEN_GLOBAL, LIMIT_EXCEEDED, each with file and offset. Uses at most a small multiple of the pickle's
// own size in memory.
absl::StatusOr<PickleDocument> ParsePickle(Window window, const PickleOptions& options);

}  // namespace slipway::engine
