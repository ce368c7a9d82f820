#include "worker/engine/run/permuted_part.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "worker/engine/storage/populate.h"
#include "worker/engine/transform/scatter_rows.h"

namespace slipway::engine {
namespace {

// Rows and columns of a box that are still to be found in files.
struct Rectangle {
  std::int64_t view_first = 0;
  std::int64_t output = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

class Cutter {
 public:
  Cutter(RegionReader& reader, const OutputTensor& tensor, const PermutedBox& box)
      : reader_(reader),
        tensor_(tensor),
        box_(box),
        longest_row_(kPermutationWindow / InfoOf(tensor.transform.from).bytes) {}

  absl::StatusOr<std::optional<PermutedPart>> Cut() {
    part_.row_stride = box_.rows.output_stride;
    part_.column_stride = box_.columns.output_stride;
    Shape index(box_.outer.size(), 0);
    do {
      Rectangle rectangle{box_.view_first, 0, box_.rows.size, box_.columns.size};
      for (std::size_t axis = 0; axis < index.size(); ++axis) {
        rectangle.view_first += index[axis] * box_.outer[axis].view_stride;
        rectangle.output += index[axis] * box_.outer[axis].output_stride;
      }
      SLIPWAY_ASSIGN_OR_RETURN(const bool fits, Cover(rectangle));
      if (!fits) {
        return std::nullopt;
      }
    } while (Advance(index));
    std::ranges::sort(part_.rows, {}, [](const PermutedRows& rows) {
      return std::tuple(rows.source.file, rows.source.position, rows.output);
    });
    part_.rows.shrink_to_fit();  // what is counted is what there is
    return std::move(part_);
  }

 private:
  bool Advance(Shape& index) const {
    for (std::size_t axis = index.size(); axis-- > 0;) {
      if (++index[axis] < box_.outer[axis].size) {
        return true;
      }
      index[axis] = 0;
    }
    return false;
  }

  // Takes the corner that lies in one piece, and goes on with what is right of it and below; false where these are too
  // many.
  absl::StatusOr<bool> Cover(const Rectangle& whole) {
    std::vector<Rectangle> open = {whole};
    while (!open.empty()) {
      if (part_.rows.size() == kMaximumPermutedRows) {
        return false;
      }
      const Rectangle r = open.back();
      open.pop_back();
      SLIPWAY_ASSIGN_OR_RETURN(
          const SourceRows found,
          reader_.ReadRows(tensor_, r.view_first, std::min(r.columns, longest_row_), box_.rows.view_stride, r.rows));
      part_.rows.push_back({.source = found, .output = r.output});
      if (found.count < r.rows) {
        open.push_back({.view_first = r.view_first + found.count * box_.rows.view_stride,
                        .output = r.output + found.count * box_.rows.output_stride,
                        .rows = r.rows - found.count,
                        .columns = r.columns});
      }
      if (found.columns < r.columns) {
        open.push_back({.view_first = r.view_first + found.columns,
                        .output = r.output + found.columns * box_.columns.output_stride,
                        .rows = found.count,
                        .columns = r.columns - found.columns});
      }
    }
    return true;
  }

  RegionReader& reader_;
  const OutputTensor& tensor_;
  const PermutedBox& box_;
  const std::int64_t longest_row_;
  PermutedPart part_;
};

// Holds one window at a time.
class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const ElementTransform& transform, const PermutedPart& part, std::byte* output,
         Rounding* rounding)
      : checkpoint_(checkpoint), transform_(transform), part_(part), output_(output), rounding_(rounding) {}

  absl::Status Load() {
    for (std::size_t i = 0; i < part_.rows.size(); ++i) {
      const SourceRows& rows = part_.rows[i].source;
      for (std::int64_t row = 0; row < rows.count;) {
        const std::int64_t begin = rows.position + row * rows.step;
        const std::int64_t more = rows.step == 0 ? rows.count : (kPermutationWindow - RowBytes(rows)) / rows.step;
        const std::int64_t count = std::min(rows.count - row, 1 + more);
        const std::int64_t end = begin + (count - 1) * rows.step + RowBytes(rows);
        if (rows.file != file_ || begin < begin_ || end > end_) {
          SLIPWAY_RETURN_IF_ERROR(MoveTo(rows.file, begin, row + count == rows.count ? Reach(i, begin, end) : end));
        }
        ScatterRows(transform_,
                    {.count = count,
                     .columns = rows.columns,
                     .source_step = rows.step,
                     .row_stride = part_.row_stride,
                     .column_stride = part_.column_stride},
                    window_.bytes().data() + (begin - begin_),
                    output_ + (part_.rows[i].output + row * part_.row_stride) * InfoOf(transform_.to).bytes, rounding_);
        row += count;
      }
    }
    return window_.Check();
  }

 private:
  [[nodiscard]] std::int64_t RowBytes(const SourceRows& rows) const {
    return rows.columns * InfoOf(transform_.from).bytes;
  }

  // How far a window from `begin` on, which has `end`, may go to have the rows after the i-th too.
  [[nodiscard]] std::int64_t Reach(std::size_t i, std::int64_t begin, std::int64_t end) const {
    while (++i < part_.rows.size()) {
      const SourceRows& next = part_.rows[i].source;
      const std::int64_t next_end = next.position + (next.count - 1) * next.step + RowBytes(next);
      if (next.file != part_.rows[i - 1].source.file || next.position < begin ||
          next_end - begin > kPermutationWindow || next.position - end > kMaximumGap) {
        break;
      }
      end = std::max(end, next_end);
    }
    return end;
  }

  absl::Status MoveTo(std::int32_t file, std::int64_t begin, std::int64_t end) {
    SLIPWAY_RETURN_IF_ERROR(window_.Check());
    window_ = {};  // before the next is mapped
    const CheckpointFile& source = checkpoint_.files[static_cast<std::size_t>(file)];
    SLIPWAY_ASSIGN_OR_RETURN(window_, source.file->Map(begin, end - begin));
    Populate(window_.bytes());
    file_ = file;
    begin_ = begin;
    end_ = end;
    return absl::OkStatus();
  }

  static constexpr std::int64_t kMaximumGap = 64 << 10;  // read over rather than mapped apart

  const Checkpoint& checkpoint_;
  const ElementTransform& transform_;
  const PermutedPart& part_;
  std::byte* const output_;
  Rounding* const rounding_;
  Window window_;
  std::int32_t file_ = -1;  // of window_
  std::int64_t begin_ = 0;
  std::int64_t end_ = 0;
};

}  // namespace

absl::StatusOr<std::optional<PermutedPart>> CutPermutedPart(RegionReader& reader, const OutputTensor& tensor,
                                                            const PermutedBox& box) {
  return Cutter(reader, tensor, box).Cut();
}

absl::Status LoadPermutedPart(const Checkpoint& checkpoint, const ElementTransform& transform, const PermutedPart& part,
                              std::byte* output, Rounding* rounding) {
  return Loader(checkpoint, transform, part, output, rounding).Load();
}

}  // namespace slipway::engine
