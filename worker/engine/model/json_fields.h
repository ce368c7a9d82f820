// Typed access to a JSON object from outside: absent and null are "nothing said", a wrong type is an error that names
// the field.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "common/error.h"

namespace slipway::engine {

inline constexpr std::int64_t kMaximumExtent = std::int64_t{1} << 40;  // no model's size comes near

// Reads fields one after the other; the first error stays. Borrows the object.
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string origin) : object_(object), origin_(std::move(origin)) {}

  [[nodiscard]] const absl::Status& status() const { return status_; }

  // The value of the first of `names` that is there and not null.
  [[nodiscard]] const nlohmann::json* Find(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      if (const auto found = object_.find(name); found != object_.end() && !found->is_null()) {
        return &*found;
      }
    }
    return nullptr;
  }
  [[nodiscard]] bool Has(const char* name) const { return object_.contains(name); }

  // A positive extent.
  std::optional<std::int64_t> Size(std::initializer_list<const char*> names) {
    return Integer(names, 1, "a positive integer");
  }
  // As many as there are, or none.
  std::optional<std::int64_t> Count(std::initializer_list<const char*> names) {
    return Integer(names, 0, "0 or a positive integer");
  }
  std::optional<double> Number(std::initializer_list<const char*> names) {
    const nlohmann::json* value = Find(names);
    if (value == nullptr) {
      return std::nullopt;
    }
    if (!value->is_number() || !std::isfinite(value->get<double>())) {
      Fail(names, *value, "a finite number");
      return std::nullopt;
    }
    return value->get<double>();
  }
  std::optional<bool> Flag(std::initializer_list<const char*> names) {
    const nlohmann::json* value = Find(names);
    if (value != nullptr && !value->is_boolean()) {
      Fail(names, *value, "true or false");
      return std::nullopt;
    }
    return value == nullptr ? std::nullopt : std::optional(value->get<bool>());
  }
  std::optional<std::string> Text(std::initializer_list<const char*> names) {
    const nlohmann::json* value = Find(names);
    if (value != nullptr && !value->is_string()) {
      Fail(names, *value, "a string");
      return std::nullopt;
    }
    return value == nullptr ? std::nullopt : std::optional(value->get<std::string>());
  }

 private:
  std::optional<std::int64_t> Integer(std::initializer_list<const char*> names, std::int64_t minimum,
                                      const char* wanted) {
    const nlohmann::json* value = Find(names);
    if (value == nullptr) {
      return std::nullopt;
    }
    if (!value->is_number_integer() || value->get<std::int64_t>() < minimum ||
        value->get<std::int64_t>() > kMaximumExtent) {
      Fail(names, *value, wanted);
      return std::nullopt;
    }
    return value->get<std::int64_t>();
  }
  void Fail(std::initializer_list<const char*> names, const nlohmann::json& value, const char* wanted) {
    if (status_.ok()) {
      constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
      const auto is_meant = [this, &value](const char* name) {
        const auto found = object_.find(name);
        return found != object_.end() && &*found == &value;
      };
      status_ = Error(Reason::kConfigurationInvalid,
                      fmt::format("{}: {} is {}, not {}", origin_, *std::ranges::find_if(names, is_meant),
                                  value.dump(-1, ' ', false, kReplace).substr(0, 100), wanted));
    }
  }

  const nlohmann::json& object_;
  std::string origin_;
  absl::Status status_;
};

}  // namespace slipway::engine
