#include "worker/engine/checkpoint/pickle.h"

#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/memory_source.h"
#include "tests/support/pickle_writer.h"

namespace slipway::engine {
namespace {

using test::PickleWriter;
using testing::HasSubstr;
using Kind = PickleValue::Kind;
using std::string_literals::operator""s;  // NOLINT(misc-unused-using-decls): literals use it

absl::StatusOr<PickleDocument> Parse(std::string_view bytes, PickleFolder* folder = nullptr) {
  return ParsePickle(test::WindowOn(bytes), {.file = "x.pt", .file_position = 1000, .folder = folder});
}

Reason ReasonOfParsing(std::string_view bytes) { return ReasonOf(Parse(bytes).status()); }

// The bytes are what CPython 3.11's pickle.dumps(value, protocol) writes.
TEST(Pickle, PlainValuesOfProtocol4) {
  // {"i": -2, "f": 1.5, "b": True, "n": None, "t": (1, 300), "l": [70000], "y": b"\x80", "big": 2**40}
  const auto document = Parse(
      "\x80\x04\x95J\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01i\x94J\xfe\xff\xff\xff\x8c\x01"
      "f\x94G?\xf8\x00\x00\x00\x00\x00\x00\x8c\x01"
      "b\x94\x88\x8c\x01n\x94N\x8c\x01t\x94K\x01M,\x01\x86\x94\x8c\x01l\x94]\x94Jp\x11\x01\x00"
      "a\x8c\x01y\x94"
      "C\x01\x80\x94\x8c\x03"
      "big\x94\x8a\x06\x00\x00\x00\x00\x00\x01u."s);
  ASSERT_TRUE(document.ok()) << Describe(document.status());
  const auto field = [&](std::string_view key) { return document->Find(document->root(), key).value(); };
  EXPECT_EQ(field("i").Integer(), -2);
  EXPECT_EQ(field("f").Number(), 1.5);
  EXPECT_EQ(field("b").Boolean(), true);
  EXPECT_TRUE(field("n").IsNone());
  ASSERT_EQ(document->Items(field("t")).size(), 2);
  EXPECT_EQ(document->Items(field("t"))[1].Integer(), 300);
  EXPECT_EQ(document->Items(field("l"))[0].Integer(), 70000);
  EXPECT_EQ(document->Bytes(field("y")), "\x80");
  EXPECT_EQ(field("big").Integer(), std::int64_t{1} << 40);
}

TEST(Pickle, TextOfProtocol0) {
  const auto document = Parse("(dp0\nVa\np1\nI5\nsVb\nL12345678901234567890L\nsVc\nF2.5\nsVd\nI01\ns.");
  ASSERT_TRUE(document.ok()) << Describe(document.status());
  EXPECT_EQ(document->Find(document->root(), "a")->Integer(), 5);
  EXPECT_EQ(document->Bytes(*document->Find(document->root(), "b")), "12345678901234567890");
  EXPECT_EQ(document->Find(document->root(), "c")->Number(), 2.5);
  EXPECT_EQ(document->Find(document->root(), "d")->Boolean(), true);
}

TEST(Pickle, BytesOfProtocol2AreDecoded) {
  const auto document = Parse(
      "\x80\x02"
      "c_codecs\nencode\nX\x03\x00\x00\x00"
      "a\xc2\x80X\x06\x00\x00\x00latin1\x86R."s);
  ASSERT_TRUE(document.ok()) << Describe(document.status());
  EXPECT_EQ(document->Bytes(document->root()), "a\x80");
}

TEST(Pickle, ANameOffTheListIsRefusedByNameAndNothingRuns) {
  const absl::Status status = Parse(
                                  "\x80\x02"
                                  "cos\nsystem\nX\x04\x00\x00\x00true\x85R."s)
                                  .status();
  EXPECT_EQ(ReasonOf(status), Reason::kPickleForbiddenGlobal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("os.system"));
  EXPECT_EQ(WhereOf(status).file, "x.pt");
  EXPECT_EQ(WhereOf(status).offset, 1002);
}

class ForbiddenGlobal : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(ForbiddenGlobal, IsRefusedInEverySpelling) {
  const auto [module, name] = GetParam();
  const std::string dotted = std::string(module) + "." + name;
  for (const std::string& pickle :
       {PickleWriter(2).Global(module, name).Finish(), PickleWriter(4).Global(module, name).Finish(),
        "(i"s + module + "\n" + name + "\n."}) {
    const absl::Status status = Parse(pickle).status();
    EXPECT_EQ(ReasonOf(status), Reason::kPickleForbiddenGlobal) << dotted;
    EXPECT_THAT(std::string(status.message()), HasSubstr(dotted));
  }
}

INSTANTIATE_TEST_SUITE_P(Names, ForbiddenGlobal,
                         testing::Values(std::pair("os", "system"), std::pair("posix", "system"),
                                         std::pair("nt", "system"), std::pair("builtins", "eval"),
                                         std::pair("builtins", "exec"), std::pair("builtins", "getattr"),
                                         std::pair("__builtin__", "eval"), std::pair("subprocess", "Popen"),
                                         std::pair("sys", "modules"), std::pair("operator", "attrgetter"),
                                         std::pair("importlib", "import_module"), std::pair("types", "CodeType"),
                                         std::pair("functools", "reduce"), std::pair("torchx", "f"),
                                         std::pair("collections", "namedtuple"), std::pair("pickle", "loads")));

TEST(Pickle, AnOpaqueClassIsOnlyAName) {
  PickleWriter pickle(2);
  pickle.Global("megatron.core.transformer.enums", "AttnBackend").Mark().Integer(5).Tuple().Reduce();
  const auto document = Parse(pickle.Finish());
  ASSERT_TRUE(document.ok()) << Describe(document.status());
  EXPECT_EQ(document->root().kind(), Kind::kObject);
  EXPECT_EQ(document->Class(document->root()).name, "AttnBackend");
  EXPECT_EQ(document->Items(document->Arguments(document->root()))[0].Integer(), 5);
}

TEST(Pickle, ACutPickleIsCorrupt) {
  const std::string whole = PickleWriter(4).Mark().Integer(1).Text("a").Tuple().Finish();
  ASSERT_TRUE(Parse(whole).ok());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(ReasonOfParsing(whole.substr(0, size)), Reason::kCheckpointCorrupt) << size;
  }
}

TEST(Pickle, ATextLongerThanTheFileIsCorrupt) {
  EXPECT_EQ(ReasonOfParsing("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
                            "a."s),
            Reason::kCheckpointCorrupt);
}

TEST(Pickle, StackAndMemoAreChecked) {
  EXPECT_EQ(ReasonOfParsing("0."), Reason::kCheckpointCorrupt);         // POP of nothing
  EXPECT_EQ(ReasonOfParsing("t."), Reason::kCheckpointCorrupt);         // TUPLE without a mark
  EXPECT_EQ(ReasonOfParsing("h\x05."), Reason::kCheckpointCorrupt);     // BINGET of nothing
  EXPECT_EQ(ReasonOfParsing("h\x00."s), Reason::kCheckpointCorrupt);    // the same, of a number in range
  EXPECT_EQ(ReasonOfParsing("NN."), Reason::kCheckpointCorrupt);        // a value left
  EXPECT_EQ(ReasonOfParsing("(N."), Reason::kCheckpointCorrupt);        // a mark left
  EXPECT_EQ(ReasonOfParsing("}(Nu."), Reason::kCheckpointCorrupt);      // a key without a value
  EXPECT_EQ(ReasonOfParsing("N(Ne."), Reason::kCheckpointCorrupt);      // APPENDS to None
  EXPECT_EQ(ReasonOfParsing("(e."), Reason::kCheckpointCorrupt);        // APPENDS to nothing
  EXPECT_EQ(ReasonOfParsing("N)R."), Reason::kCheckpointCorrupt);       // REDUCE of None
  EXPECT_EQ(ReasonOfParsing("NNb."), Reason::kCheckpointCorrupt);       // BUILD of None
  EXPECT_EQ(ReasonOfParsing("\x82\x01."), Reason::kCheckpointCorrupt);  // EXT1
  EXPECT_EQ(ReasonOfParsing("Px\n."), Reason::kCheckpointCorrupt);      // PERSID
  EXPECT_EQ(ReasonOfParsing("NQ."), Reason::kCheckpointCorrupt);        // BINPERSID
}

TEST(Pickle, ACycleIsNoHarm) {
  const auto document = Parse(
      "\x80\x04]\x94h\x00"
      "a."s);
  ASSERT_TRUE(document.ok()) << Describe(document.status());
  const auto items = document->Items(document->root());
  ASSERT_EQ(items.size(), 1);
  EXPECT_EQ(document->Items(items[0]).data(), items.data());
}

TEST(Pickle, AMillionDeepIsRefused) {
  constexpr std::size_t kDepth = 2'000'000;
  EXPECT_EQ(ReasonOfParsing(std::string(kDepth, '(') + "."), Reason::kLimitExceeded);
  EXPECT_EQ(ReasonOfParsing(std::string(kDepth, ']') + "."), Reason::kLimitExceeded);
  EXPECT_EQ(ReasonOfParsing(")" + std::string(kDepth, '\x85') + "."), Reason::kLimitExceeded);
}

TEST(Pickle, DeepListsAreRefusedWithoutAStack) {
  std::string bytes = "\x80\x04]\x94"s;  // x0 = []; then x(i+1) = [xi]
  for (int i = 0; i < 5000; ++i) {
    const auto previous = static_cast<std::uint32_t>(i);
    bytes += "0]\x94j"s + std::string(reinterpret_cast<const char*>(&previous), 4) + "a";
  }
  EXPECT_EQ(ReasonOfParsing(bytes + "."), Reason::kLimitExceeded);
}

TEST(Pickle, TooManyContainersAreRefused) {
  std::string bytes;
  for (int i = 0; i < 5'000'000; ++i) {
    bytes += "]0";
  }
  EXPECT_EQ(ReasonOfParsing(bytes + "N."), Reason::kLimitExceeded);
}

TEST(Pickle, TheLastOfRepeatedKeysCounts) {
  const auto document = Parse(
      "}(\x8c\x01"
      "aK\x01\x8c\x01"
      "aK\x02u."s);
  ASSERT_TRUE(document.ok());
  EXPECT_EQ(document->Find(document->root(), "a")->Integer(), 2);
}

// Folds objects of one class into their "value".
class ValueFolder final : public PickleFolder {
 public:
  absl::StatusOr<std::optional<PickleValue>> Fold(const PickleDocument& document, PickleClass,
                                                  PickleValue state) override {
    const auto value = document.Find(state, "value");
    return PickleValue::OfRecord(static_cast<std::uint32_t>(value->Integer().value()));
  }
};

constexpr std::string_view kObject = "ctorch\nX\n)\x81}(\x8c\x05valueK\x07ub";

TEST(Pickle, AFoldedObjectIsItsRecord) {
  ValueFolder folder;
  const auto document = Parse("](" + std::string(kObject) + std::string(kObject) + "e.", &folder);
  ASSERT_TRUE(document.ok()) << Describe(document.status());
  ASSERT_EQ(document->Items(document->root()).size(), 2);
  EXPECT_EQ(document->Items(document->root())[1].Record(), 7);
}

TEST(Pickle, WhatTheMemoStillHoldsSurvivesFolding) {
  ValueFolder folder;
  // The state's dictionary is memoized, and fetched after the object was folded.
  const auto document = Parse(
      "](ctorch\nX\n)\x81}\x94(\x8c\x05valueK\x07ubh\x00"
      "e."s,
      &folder);
  ASSERT_TRUE(document.ok()) << Describe(document.status());
  const auto items = document->Items(document->root());
  ASSERT_EQ(items.size(), 2);
  EXPECT_EQ(document->Find(items[1], "value")->Integer(), 7);
}

TEST(Pickle, AListReachedThroughAParameterSurvivesFolding) {
  ValueFolder folder;
  // t = ([],) is memoized. While an object is being made, its list grows through _rebuild_parameter(t) = t[0].
  const auto document = Parse(
      "\x80\x04(]\x85\x94"
      "ctorch\nX\n)\x81"
      "ctorch._utils\n_rebuild_parameter\nh\x00RK\x2a"
      "a0"
      "}(\x8c\x05valueK\x07ub"
      "h\x00t."s,
      &folder);
  ASSERT_TRUE(document.ok()) << Describe(document.status());
  const auto items = document->Items(document->root());
  ASSERT_EQ(items.size(), 3);
  EXPECT_EQ(document->Items(document->Items(items[0])[0])[0].Integer(), 42);
}

}  // namespace
}  // namespace slipway::engine
