#include "worker/engine/run/buffer_pool.h"

#include <cstdint>
#include <cstring>
#include <future>
#include <optional>
#include <thread>

#include <gtest/gtest.h>

namespace slipway::engine {
namespace {

constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;

TEST(BufferPool, ABufferIsUsedAgainForWhatFitsInIt) {
  MemoryBudget memory(64 * kMebibyte);
  BufferPool pool(memory);
  std::byte* first = nullptr;
  {
    const BufferPool::Buffer buffer = pool.Take(kMebibyte + 5, kMebibyte + 5);
    first = buffer.begin();
    std::memset(first, 1, static_cast<std::size_t>(kMebibyte + 5));
  }
  const BufferPool::Buffer again = pool.Take(kMebibyte + 4096, kMebibyte + 4096);
  EXPECT_EQ(again.begin(), first);
  const BufferPool::Buffer beside = pool.Take(kMebibyte, kMebibyte);
  EXPECT_NE(beside.begin(), first);
}

TEST(BufferPool, AThreadTakesTheBufferThatItGaveBackBeforeThatOfAnother) {
  MemoryBudget memory(64 * kMebibyte);
  BufferPool pool(memory);
  std::optional<BufferPool::Buffer> buffer(pool.Take(kMebibyte, kMebibyte));
  std::byte* const own = buffer->begin();
  std::promise<void> taken;
  std::promise<void> to_give_back;
  std::thread other([&] {
    const BufferPool::Buffer beside = pool.Take(kMebibyte, kMebibyte);
    EXPECT_NE(beside.begin(), own);
    taken.set_value();
    to_give_back.get_future().wait();
  });
  taken.get_future().wait();
  buffer.reset();
  to_give_back.set_value();
  other.join();  // the other's is the last that came back
  EXPECT_EQ(pool.Take(kMebibyte, kMebibyte).begin(), own);
}

TEST(BufferPool, WhatIsUsedBesideABufferIsInTheBudgetEachTime) {
  MemoryBudget memory(64 * kMebibyte);
  BufferPool pool(memory);
  { const BufferPool::Buffer buffer = pool.Take(kMebibyte, kMebibyte); }
  { const BufferPool::Buffer buffer = pool.Take(kMebibyte, 20 * kMebibyte); }
  EXPECT_GE(memory.peak(), 20 * kMebibyte);
}

TEST(BufferPool, IdleBuffersGiveWayToWhatTheBudgetWouldNotHoldBesideThem) {
  MemoryBudget memory(10 * kMebibyte);
  BufferPool pool(memory);
  { const BufferPool::Buffer idle = pool.Take(6 * kMebibyte, 6 * kMebibyte); }
  const BufferPool::Buffer large = pool.Take(8 * kMebibyte, 8 * kMebibyte);
  EXPECT_NE(large.begin(), nullptr);
  EXPECT_LE(memory.peak(), memory.total());
}

TEST(BufferPool, ABufferThatComesBackWhileAnotherIsWaitedForMakesRoomForIt) {
  MemoryBudget memory(10 * kMebibyte);
  BufferPool pool(memory);
  for (int round = 0; round < 50; ++round) {
    std::optional<BufferPool::Buffer> held(pool.Take(6 * kMebibyte, 6 * kMebibyte));
    auto waiting = std::async(std::launch::async, [&] { return pool.Take(8 * kMebibyte, 8 * kMebibyte).begin(); });
    if (round % 2 == 0) {
      std::this_thread::yield();
    }
    held.reset();
    ASSERT_EQ(waiting.wait_for(std::chrono::seconds(20)), std::future_status::ready);
    EXPECT_NE(waiting.get(), nullptr);
  }
  EXPECT_LE(memory.peak(), memory.total());
}

TEST(BufferPool, EndingThePoolGivesTheWholeBudgetBack) {
  MemoryBudget memory(10 * kMebibyte);
  {
    BufferPool pool(memory);
    const BufferPool::Buffer buffer = pool.Take(7 * kMebibyte, 7 * kMebibyte);
  }
  const MemoryBudget::Grant all = memory.Acquire(10 * kMebibyte);
  EXPECT_EQ(memory.peak(), 10 * kMebibyte);
}

}  // namespace
}  // namespace slipway::engine
