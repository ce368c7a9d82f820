// How the coordinator's commands are posted and answered; for its own sources only.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "server/coordinator.h"

namespace slipway::server {

inline absl::Status NoSuchExport(const std::string& id) {
  return Error(Reason::kNotFound, fmt::format("There is no export exports/{}.", id));
}

template <typename Value>
void Coordinator::Post(Reply<Value> reply, std::function<void()> run) {
  queue_.Post({[this, reply, run = std::move(run)] {
                 if (broken_.ok()) {
                   run();
                 } else {
                   reply(broken_);
                 }
               },
               [reply](const absl::Status& why) { reply(why); }});
}

template <typename Value>
void Coordinator::AnswerAfterCommit(Reply<Value> reply, std::function<absl::StatusOr<Value>()> value) {
  after_commit_.push_back([reply = std::move(reply), value = std::move(value)](const absl::Status& committed) {
    reply(committed.ok() ? value() : committed);
  });
}

}  // namespace slipway::server
