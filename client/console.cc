#include "client/console.h"

#include "client/message_json.h"

namespace slipway {

void Console::PrintJson(const nlohmann::ordered_json& json_object) const {
  out << ToLine(json_object) << '\n' << std::flush;
}

}  // namespace slipway
