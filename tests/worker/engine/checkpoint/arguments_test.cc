#include "worker/engine/checkpoint/arguments.h"

#include <limits>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/pickle_writer.h"

namespace slipway::engine {
namespace {

using test::PickleWriter;

// Keeps the bytes of a pickle that a document points into.
class Text final : public Window::Backing {
 public:
  explicit Text(std::string bytes) : text(std::move(bytes)) {}
  [[nodiscard]] absl::Status Check() const override { return absl::OkStatus(); }
  std::string text;
};

absl::StatusOr<PickleDocument> Parse(PickleWriter& pickle) {
  auto text = std::make_unique<Text>(pickle.Finish());
  const auto bytes = std::as_bytes(std::span(text->text));
  return ParsePickle(Window(bytes, std::move(text)), {.file = "common.pt"});
}

nlohmann::json ToJson(PickleWriter& pickle) {
  const auto document = Parse(pickle);
  if (!document.ok()) {
    return Describe(document.status());
  }
  const auto json = PickleToJson(*document, document->root());
  return json.ok() ? *json : nlohmann::json(Describe(json.status()));
}

PickleWriter Pickle() { return PickleWriter(2); }

TEST(Arguments, PlainValuesKeepTheirTypes) {
  auto pickle = Pickle();
  pickle.Mark().None().Boolean(true).Integer(-5).Integer(1LL << 40).Float(1e-5).Text("rope").Tuple();
  EXPECT_EQ(ToJson(pickle), nlohmann::json({nullptr, true, -5, 1LL << 40, 1e-5, "rope"}));
}

TEST(Arguments, DtypesReadAsTorchPrintsThem) {
  auto pickle = Pickle();
  pickle.Global("torch", "bfloat16");
  EXPECT_EQ(ToJson(pickle), "torch.bfloat16");
}

TEST(Arguments, EnumerationsKeepClassAndValue) {
  auto pickle = Pickle();
  pickle.Global("megatron.core.transformer.enums", "AttnBackend").Mark().Integer(5).Tuple().Reduce();
  EXPECT_EQ(ToJson(pickle), nlohmann::json({{"enum", "megatron.core.transformer.enums.AttnBackend"}, {"value", 5}}));
}

TEST(Arguments, NumbersThatJsonLacksAreTexts) {
  auto pickle = Pickle();
  pickle.Mark().Float(std::numeric_limits<double>::quiet_NaN()).Float(-std::numeric_limits<double>::infinity());
  pickle.Raw(std::string_view("\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01", 11)).Tuple();  // 2^64
  EXPECT_EQ(ToJson(pickle), nlohmann::json({"NaN", "-Infinity", "0x10000000000000000"}));
}

TEST(Arguments, TextThatIsNotUtf8IsMadeSoBecauseJsonMustBe) {
  auto pickle = Pickle();
  pickle.Text("a\xff\xed\xa0\x80z");
  EXPECT_EQ(ToJson(pickle).dump(), "\"a????z\"");
}

TEST(Arguments, ACommonStateGivesArgumentsVersionIterationAndLayout) {
  auto pickle = Pickle();
  pickle.EmptyDictionary().Mark().Text("args");
  pickle.Global("argparse", "Namespace").EmptyTuple().NewObject().EmptyDictionary().Mark();
  pickle.Text("model_parallel_size").Integer(2).Text("pipeline_model_parallel_size").Integer(4);
  pickle.Text("swiglu").Boolean(true).Text("norm_epsilon").Integer(1).SetItems().Build();
  pickle.Text("checkpoint_version").Float(3.0).Text("iteration").Integer(77).SetItems();
  const auto document = Parse(pickle);
  ASSERT_TRUE(document.ok()) << Describe(document.status());
  const auto common = ReadCommonState(*document, document->root());
  ASSERT_TRUE(common.ok()) << Describe(common.status());
  EXPECT_EQ(common->checkpoint_version, 3.0);
  EXPECT_EQ(common->iteration, 77);
  EXPECT_EQ(common->layout.tensor, 2);
  EXPECT_EQ(common->layout.pipeline, 4);
  EXPECT_EQ(BooleanArgument(common->arguments, "swiglu"), true);
  EXPECT_EQ(IntegerArgument(common->arguments, "swiglu"), std::nullopt);
  EXPECT_EQ(NumberArgument(common->arguments, "norm_epsilon"), 1.0);
  EXPECT_EQ(StringArgument(common->arguments, "absent"), std::nullopt);
}

TEST(Arguments, NestingPastTheLimitIsRefused) {
  auto pickle = Pickle();
  for (int i = 0; i < 100; ++i) {
    pickle.EmptyList();
  }
  for (int i = 0; i < 99; ++i) {
    pickle.Raw("a");  // each list into the one before it
  }
  const auto document = Parse(pickle);
  ASSERT_TRUE(document.ok()) << Describe(document.status());
  EXPECT_EQ(ReasonOf(PickleToJson(*document, document->root()).status()), Reason::kLimitExceeded);
}

TEST(Arguments, ASmallPickleCannotUnfoldIntoAHugeDocument) {
  auto pickle = Pickle();
  pickle.EmptyList().Raw(std::string_view("q\x00", 2));  // memo 0
  for (char level = 1; level <= 20; ++level) {           // a list of the list before it, ten times
    pickle.Raw("0").EmptyList().Mark();
    for (int copy = 0; copy < 10; ++copy) {
      pickle.Raw(std::string{'h', static_cast<char>(level - 1)});
    }
    pickle.Appends().Raw(std::string{'q', level});
  }
  const auto document = Parse(pickle);
  ASSERT_TRUE(document.ok()) << Describe(document.status());
  EXPECT_EQ(ReasonOf(PickleToJson(*document, document->root()).status()), Reason::kLimitExceeded);
}

}  // namespace
}  // namespace slipway::engine
