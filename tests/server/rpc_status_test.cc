#include "common/rpc/rpc_status.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "common/reason.h"

namespace slipway {
namespace {

TEST(RpcStatus, TheWiresListOfReasonsIsTheTableOfReasons) {
  const google::protobuf::EnumDescriptor* wire = v1::ErrorReason_descriptor();
  ASSERT_EQ(static_cast<std::size_t>(wire->value_count()), Reasons().size());
  for (const ReasonInfo& row : Reasons()) {
    const auto* value = wire->FindValueByNumber(static_cast<int>(row.reason));
    ASSERT_NE(value, nullptr) << row.name;
    const std::string prefix = row.reason == Reason::kUnspecified ? "" : "ERROR_REASON_";
    EXPECT_EQ(value->name(), prefix + std::string(row.name));
  }
}

TEST(RpcStatus, AnErrorComesBackAsItWent) {
  for (const ReasonInfo& row : Reasons().subspan(1)) {
    const absl::Status error = Error(row.reason, "what happened", Where{.tensor = "t", .file = "f", .offset = 0});
    const absl::Status back = FromErrorDetail(ToErrorDetail(error));
    EXPECT_EQ(back, error) << row.name;
    EXPECT_EQ(ReasonOf(back), row.reason);
  }
}

TEST(RpcStatus, AReasonFromTheFutureIsAnInternalErrorNotSuccess) {
  v1::ErrorDetail detail;
  detail.set_reason(static_cast<v1::ErrorReason>(12345));
  detail.set_message("m");
  EXPECT_EQ(ReasonOf(FromErrorDetail(detail)), Reason::kInternal);
  EXPECT_EQ(ReasonOf(FromErrorDetail({})), Reason::kInternal);
}

TEST(RpcStatus, NamesOfAnyBytesAndAnyLengthTravel) {
  const std::string wild = std::string("\xFF\xC0\x80 caf\xC3\xA9 \xED\xA0\x80") + std::string(1 << 16, 'x');
  const v1::ErrorDetail detail =
      ToErrorDetail(Error(Reason::kTensorUnknown, wild, Where{.tensor = wild, .file = wild}));
  EXPECT_LT(detail.ByteSizeLong(), 8192U);
  EXPECT_NE(detail.message().find("caf\xC3\xA9"), std::string::npos);
  EXPECT_EQ(detail.message().find('\xFF'), std::string::npos);
  v1::ErrorDetail parsed;
  EXPECT_TRUE(parsed.ParseFromString(detail.SerializeAsString())) << "protobuf checks that strings are UTF-8";
}

}  // namespace
}  // namespace slipway
