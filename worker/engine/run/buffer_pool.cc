#include "worker/engine/run/buffer_pool.h"

#include <algorithm>
#include <iterator>
#include <new>
#include <utility>

namespace slipway::engine {
namespace {

constexpr std::align_val_t kAlignment{4096};

// Segments differ: sizes are rounded up to these, so that one's buffer does for the next.
constexpr std::int64_t kStep = std::int64_t{1} << 20;
constexpr std::int64_t kLargeStep = std::int64_t{4} << 20;  // of those that have at least as much
constexpr std::int64_t kPlenty = 8;                         // but only where the budget holds so many

}  // namespace

void BufferPool::Buffer::Free::operator()(std::byte* bytes) const { ::operator delete[](bytes, kAlignment); }

BufferPool::Buffer::Buffer(Buffer&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
      grant_(std::move(other.grant_)),
      bytes_(std::move(other.bytes_)),
      pinned_(std::move(other.pinned_)),
      size_(other.size_),
      granted_(other.granted_),
      user_(other.user_) {}

BufferPool::Buffer& BufferPool::Buffer::operator=(Buffer&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(grant_, other.grant_);
  std::swap(bytes_, other.bytes_);
  std::swap(pinned_, other.pinned_);
  std::swap(size_, other.size_);
  std::swap(granted_, other.granted_);
  std::swap(user_, other.user_);
  return *this;
}

BufferPool::Buffer::~Buffer() {
  if (pool_ != nullptr) {
    pool_->GiveBack(*this);
  }
}

BufferPool::Buffer BufferPool::Take(std::int64_t bytes, std::int64_t memory) {
  {
    const std::scoped_lock lock(mutex_);
    const auto fits = [&](const Buffer& buffer) {
      return buffer.size_ >= bytes && buffer.granted_ - buffer.size_ >= memory - bytes;
    };
    const auto is_own = [&, self = std::this_thread::get_id()](const Buffer& buffer) {
      return buffer.user_ == self && fits(buffer);
    };
    auto found = std::find_if(idle_.rbegin(), idle_.rend(), is_own);
    found = found == idle_.rend() ? std::find_if(idle_.rbegin(), idle_.rend(), fits) : found;
    if (found != idle_.rend()) {
      Buffer taken = std::move(*found);
      idle_.erase(std::next(found).base());
      taken.pool_ = this;
      return taken;
    }
    ++waiting_;
  }
  Buffer buffer;
  const bool plenty = memory + kLargeStep <= memory_.total() / kPlenty;
  const std::int64_t step = bytes < kLargeStep ? kStep : kLargeStep;
  const std::int64_t more = plenty ? (step - bytes % step) % step : 0;
  buffer.size_ = bytes + more;
  buffer.granted_ = memory + more;
  if (auto grant = memory_.TryAcquire(buffer.granted_)) {
    buffer.grant_ = *std::move(grant);
  } else {
    Drop();
    buffer.grant_ = memory_.Acquire(buffer.granted_);
  }
  {
    const std::scoped_lock lock(mutex_);
    --waiting_;
  }
  buffer.pool_ = this;
  if (pinned_) {
    if (auto allocated = PinnedMemory::Allocate(buffer.size_); allocated.ok()) {
      buffer.pinned_ = *std::move(allocated);
      return buffer;
    }
  }
  buffer.bytes_.reset(static_cast<std::byte*>(::operator new[](static_cast<std::size_t>(buffer.size_), kAlignment)));
  return buffer;
}

void BufferPool::Drop() {
  std::list<Buffer> dropped;
  const std::scoped_lock lock(mutex_);
  dropped.swap(idle_);
}

void BufferPool::GiveBack(Buffer& buffer) {
  buffer.pool_ = nullptr;
  buffer.user_ = std::this_thread::get_id();
  const std::scoped_lock lock(mutex_);
  if (waiting_ == 0) {
    idle_.push_back(std::move(buffer));
  }
}

}  // namespace slipway::engine
