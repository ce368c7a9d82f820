#include "client/json_text.h"

#include "client/human.h"
#include "client/table.h"

namespace slipway {

using Json = nlohmann::ordered_json;

const Json& At(const Json& object, const char* key) {
  static const Json kNull;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : kNull;
}

std::int64_t IntegerAt(const Json& object, const char* key) {
  const Json& value = At(object, key);
  return value.is_number() ? value.get<std::int64_t>() : 0;
}

std::string TextOf(const Json& value) {
  if (value.is_null()) {
    return "";
  }
  if (value.is_string()) {
    return value.get<std::string>();
  }
  if (!value.is_array()) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  std::string text;
  for (const Json& element : value) {
    text += (text.empty() ? "" : ", ") + TextOf(element);
  }
  return "[" + text + "]";
}

std::string TextAt(const Json& object, const char* key) { return TextOf(At(object, key)); }

std::string RenderIgnored(const Json& ignored, int width) {
  if (!ignored.is_array() || ignored.empty()) {
    return "";
  }
  Table table({{.title = "IGNORED", .minimum = 20},
               {.title = "COUNT", .align_right = true},
               {.title = "SIZE", .align_right = true},
               {.title = "FOR EXAMPLE", .minimum = 12}});
  for (const Json& entry : ignored) {
    const std::int64_t bytes = IntegerAt(entry, "bytes");
    const Json& examples = At(entry, "examples");
    table.AddRow({TextAt(entry, "reason"), HumanCount(IntegerAt(entry, "count")), bytes < 0 ? "?" : HumanBytes(bytes),
                  examples.is_array() && !examples.empty() ? TextOf(examples[0]) : ""});
  }
  return "\n" + table.Render(width);
}

}  // namespace slipway
