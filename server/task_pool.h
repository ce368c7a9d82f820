// A few threads for work that may block on a file system, away from the coordinator and from gRPC's threads.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace slipway::server {

// Thread-safe. The destructor runs what is queued, then ends the threads.
class TaskPool {
 public:
  TaskPool(int threads, std::size_t capacity);
  ~TaskPool();
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  // False where `capacity` tasks wait already: the task was not taken.
  [[nodiscard]] bool Submit(std::function<void()> task);

 private:
  void Run();

  const std::size_t capacity_;
  std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<std::function<void()>> tasks_;  // guarded by mutex_
  bool closed_ = false;                      // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace slipway::server
