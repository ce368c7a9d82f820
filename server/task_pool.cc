#include "server/task_pool.h"

#include <utility>

namespace slipway::server {

TaskPool::TaskPool(int threads, std::size_t capacity) : capacity_(capacity) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { Run(); });
  }
}

TaskPool::~TaskPool() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  filled_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

bool TaskPool::Submit(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || tasks_.size() >= capacity_) {
      return false;
    }
    tasks_.push_back(std::move(task));
  }
  filled_.notify_one();
  return true;
}

void TaskPool::Run() {
  while (true) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      filled_.wait(lock, [this] { return closed_ || !tasks_.empty(); });
      if (tasks_.empty()) {
        return;
      }
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace slipway::server
