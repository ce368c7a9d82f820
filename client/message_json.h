// Messages of the contract as JSON for programs: the contract's field names, numbers as numbers, enumerators without
// their prefix ("SUCCEEDED"), timestamps as RFC 3339, absent submessages left out.
#pragma once

#include <string>

#include <google/protobuf/message.h>
#include <google/protobuf/timestamp.pb.h>
#include <nlohmann/json.hpp>

#include "slipway/v1/export.pb.h"

namespace slipway {

nlohmann::ordered_json MessageToJson(const google::protobuf::Message& message);

// One line; bytes that are not UTF-8 are replaced.
std::string ToLine(const nlohmann::ordered_json& json);

// "SUCCEEDED", "QUEUED", ...
std::string NameOf(v1::ExportState state);

// "2026-01-31T23:59:59.123Z".
std::string FormatTimestamp(const google::protobuf::Timestamp& timestamp);

// Seconds since the epoch.
double SecondsOf(const google::protobuf::Timestamp& timestamp);

}  // namespace slipway
