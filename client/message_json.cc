#include "client/message_json.h"

#include <string_view>
#include <vector>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/time_util.h>

namespace slipway {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::Timestamp;
using Json = nlohmann::ordered_json;

// Enumerators are spelled ENUM_NAME_VALUE in the contract.
std::string ShortName(const EnumValueDescriptor& value) {
  std::string prefix;
  for (const char letter : value.type()->name()) {
    if (letter >= 'A' && letter <= 'Z' && !prefix.empty()) {
      prefix += '_';
    }
    prefix += letter >= 'a' && letter <= 'z' ? static_cast<char>(letter - 'a' + 'A') : letter;
  }
  prefix += '_';
  return value.name().starts_with(prefix) ? value.name().substr(prefix.size()) : value.name();
}

// Element `index` of a repeated field, or the value of a single one where `index` is negative.
Json ValueOf(const Message& message, const FieldDescriptor* field, int index) {
  const Reflection& reflection = *message.GetReflection();
  const bool repeated = index >= 0;
  const auto pick = [&](auto single, auto element) {
    return repeated ? (reflection.*element)(message, field, index) : (reflection.*single)(message, field);
  };
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return pick(&Reflection::GetInt32, &Reflection::GetRepeatedInt32);
    case FieldDescriptor::CPPTYPE_INT64:
      return pick(&Reflection::GetInt64, &Reflection::GetRepeatedInt64);
    case FieldDescriptor::CPPTYPE_UINT32:
      return pick(&Reflection::GetUInt32, &Reflection::GetRepeatedUInt32);
    case FieldDescriptor::CPPTYPE_UINT64:
      return pick(&Reflection::GetUInt64, &Reflection::GetRepeatedUInt64);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return pick(&Reflection::GetDouble, &Reflection::GetRepeatedDouble);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return pick(&Reflection::GetFloat, &Reflection::GetRepeatedFloat);
    case FieldDescriptor::CPPTYPE_BOOL:
      return pick(&Reflection::GetBool, &Reflection::GetRepeatedBool);
    case FieldDescriptor::CPPTYPE_ENUM:
      return ShortName(*pick(&Reflection::GetEnum, &Reflection::GetRepeatedEnum));
    case FieldDescriptor::CPPTYPE_STRING:
      return pick(&Reflection::GetString, &Reflection::GetRepeatedString);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MessageToJson(repeated ? reflection.GetRepeatedMessage(message, field, index)
                                    : reflection.GetMessage(message, field));
  }
  return nullptr;
}

}  // namespace

Json MessageToJson(const Message& message) {
  if (const auto* timestamp = dynamic_cast<const Timestamp*>(&message)) {
    return FormatTimestamp(*timestamp);
  }
  Json json = Json::object();
  const Descriptor& descriptor = *message.GetDescriptor();
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor* field = descriptor.field(i);
    if (field->is_repeated()) {
      Json values = Json::array();
      for (int index = 0; index < reflection.FieldSize(message, field); ++index) {
        values.push_back(ValueOf(message, field, index));
      }
      json[field->name()] = std::move(values);
    } else if (!field->has_presence() || reflection.HasField(message, field)) {
      json[field->name()] = ValueOf(message, field, -1);
    }
  }
  return json;
}

std::string ToLine(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string NameOf(v1::ExportState state) {
  const auto* value = v1::ExportState_descriptor()->FindValueByNumber(state);
  return value == nullptr ? std::to_string(state) : ShortName(*value);
}

std::string FormatTimestamp(const Timestamp& timestamp) {
  using google::protobuf::util::TimeUtil;
  const bool valid = timestamp.seconds() >= TimeUtil::kTimestampMinSeconds &&
                     timestamp.seconds() <= TimeUtil::kTimestampMaxSeconds && timestamp.nanos() >= 0 &&
                     timestamp.nanos() < 1'000'000'000;
  return valid ? TimeUtil::ToString(timestamp) : std::string();
}

double SecondsOf(const Timestamp& timestamp) {
  return static_cast<double>(timestamp.seconds()) + static_cast<double>(timestamp.nanos()) / 1e9;
}

}  // namespace slipway
