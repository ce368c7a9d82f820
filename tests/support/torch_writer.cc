#include "tests/support/torch_writer.h"

#include <cstddef>

#include <fmt/format.h>

#include "tests/support/pickle_writer.h"

namespace slipway::test {
namespace {

constexpr std::int64_t kAlignment = 64;
constexpr std::uint64_t kNeeds64Bits = 0xFFFFFFFF;

void Little(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) {
    out += static_cast<char>((value >> (8 * i)) & 0xFF);
  }
}

std::uint64_t Clamp(std::uint64_t value) { return value < kNeeds64Bits ? value : kNeeds64Bits; }

class ZipWriter {
 public:
  explicit ZipWriter(std::ostream& out) : out_(out) {}

  void Add(const std::string& name, std::int64_t size, const StorageWriter& write) {
    const std::uint64_t header = position_;
    Local(name);
    write(out_, size);
    position_ += static_cast<std::uint64_t>(size);
    Descriptor(static_cast<std::uint64_t>(size));
    Central(name, static_cast<std::uint64_t>(size), header);
  }

  std::int64_t Finish() {
    const std::uint64_t start = position_;
    const std::uint64_t size = central_.size();
    Emit(central_);
    if (start >= kNeeds64Bits) {
      End64(start, size);
    }
    std::string end;
    Little(end, 0x06054b50, 4);
    Little(end, 0, 4);
    Little(end, count_, 2);
    Little(end, count_, 2);
    Little(end, size, 4);
    Little(end, Clamp(start), 4);
    Little(end, 0, 2);
    Emit(end);
    return static_cast<std::int64_t>(position_);
  }

 private:
  void Emit(const std::string& bytes) {
    out_.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    position_ += bytes.size();
  }

  void Local(const std::string& name) {
    constexpr std::int64_t kHeader = 30;
    constexpr std::int64_t kExtraHeader = 4;
    const auto fixed = static_cast<std::int64_t>(position_ + name.size()) + kHeader + kExtraHeader;
    const std::int64_t padding = (kAlignment - fixed % kAlignment) % kAlignment;
    std::string header;
    Little(header, 0x04034b50, 4);
    Little(header, 0, 2);
    Little(header, 0x0808, 2);
    header.append(18, '\0');
    Little(header, name.size(), 2);
    Little(header, static_cast<std::uint64_t>(kExtraHeader + padding), 2);
    header += name;
    header += "FB";
    Little(header, static_cast<std::uint64_t>(padding), 2);
    header.append(static_cast<std::size_t>(padding), 'Z');
    Emit(header);
  }

  void Descriptor(std::uint64_t size) {
    const int width = size >= kNeeds64Bits ? 8 : 4;
    std::string descriptor;
    Little(descriptor, 0x08074b50, 4);
    Little(descriptor, 0, 4);
    Little(descriptor, size, width);
    Little(descriptor, size, width);
    Emit(descriptor);
  }

  void Central(const std::string& name, std::uint64_t size, std::uint64_t header) {
    std::string extra;
    if (size >= kNeeds64Bits) {
      Little(extra, size, 8);
      Little(extra, size, 8);
    }
    if (header >= kNeeds64Bits) {
      Little(extra, header, 8);
    }
    const std::size_t extra_size = extra.empty() ? 0 : extra.size() + 4;
    Little(central_, 0x02014b50, 4);
    Little(central_, 0, 4);
    Little(central_, 0x0808, 2);
    central_.append(10, '\0');
    Little(central_, Clamp(size), 4);
    Little(central_, Clamp(size), 4);
    Little(central_, name.size(), 2);
    Little(central_, extra_size, 2);
    central_.append(10, '\0');
    Little(central_, Clamp(header), 4);
    central_ += name;
    if (!extra.empty()) {
      Little(central_, 1, 2);
      Little(central_, extra.size(), 2);
      central_ += extra;
    }
    ++count_;
  }

  void End64(std::uint64_t start, std::uint64_t size) {
    const std::uint64_t position = position_;
    std::string end;
    Little(end, 0x06064b50, 4);
    Little(end, 44, 8);
    end.append(12, '\0');
    Little(end, count_, 8);
    Little(end, count_, 8);
    Little(end, size, 8);
    Little(end, start, 8);
    Little(end, 0x07064b50, 4);
    Little(end, 0, 4);
    Little(end, position, 8);
    Little(end, 1, 4);
    Emit(end);
  }

  std::ostream& out_;
  std::uint64_t position_ = 0;
  std::uint64_t count_ = 0;
  std::string central_;
};

void AddText(ZipWriter& zip, const std::string& name, std::string_view text) {
  zip.Add(name, static_cast<std::int64_t>(text.size()),
          [text](std::ostream& out, std::int64_t size) { out.write(text.data(), static_cast<std::streamsize>(size)); });
}

void IntegerTuple(PickleWriter& pickle, const std::vector<std::int64_t>& values) {
  pickle.Mark();
  for (const std::int64_t value : values) {
    pickle.Integer(value);
  }
  pickle.Tuple();
}

}  // namespace

std::int64_t WriteTorchArchive(std::ostream& out, std::string_view root, std::string_view pickle,
                               const std::vector<TorchStorage>& storages) {
  ZipWriter zip(out);
  AddText(zip, fmt::format("{}/data.pkl", root), pickle);
  AddText(zip, fmt::format("{}/byteorder", root), "little");
  for (std::size_t i = 0; i < storages.size(); ++i) {
    zip.Add(fmt::format("{}/data/{}", root, i), storages[i].size, storages[i].write);
  }
  AddText(zip, fmt::format("{}/version", root), "3\n");
  return zip.Finish();
}

std::string TensorPickle(std::string_view storage_class, const std::vector<std::int64_t>& shape,
                         std::int64_t elements) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t axis = shape.size(); axis-- > 1;) {
    strides[axis - 1] = strides[axis] * shape[axis];
  }
  PickleWriter pickle(2);
  pickle.Global("torch._utils", "_rebuild_tensor_v2").Mark();
  pickle.Mark().Text("storage").Global("torch", storage_class).Text("0").Text("cpu").Integer(elements).Tuple();
  pickle.PersistentId().Integer(0);
  IntegerTuple(pickle, shape);
  IntegerTuple(pickle, strides);
  pickle.Boolean(false).Global("collections", "OrderedDict").EmptyTuple().Reduce().Tuple().Reduce();
  return pickle.Finish();
}

}  // namespace slipway::test
