//===- PlanReportTest.cpp - Text, JSON and the page -------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/PlanReport.h"

#include "TinyTable.h"

#include <gmock/gmock.h>

#include <sstream>

using namespace sluice;
using namespace sluice::planner;
using testing::HasSubstr;
using testing::Not;

namespace {

PlanReport makeReport(const char *target, bool profiled) {
  PlanReport report;
  report.model = tinyTable();
  report.stats.source = profiled ? "a & <b>.json" : "uniform";
  for (const TableLayer &layer : report.model.layers)
    report.stats.chosen.push_back(uniformChoice(layer.experts, layer.topK));
  if (profiled) {
    report.stats.tokens = 1000;
    report.stats.chosen[0] = {0.9, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1};
    report.stats.placement.assign(2, {{0, 2, 3, 4}, {1, 5, 6, 7}});
  }
  report.decision =
      *ParallelPlanner(report.model, *findTarget(target), report.stats).plan({.ranks = 2, .tp = 1});
  const Candidate &subject = *report.decision.subject();
  CostModel costs(report.model, subject.shape, subject.facts, report.decision.target, report.stats);
  report.curve = batchCurve(costs, 8, 512);
  report.contexts = largestBatches(report.model, subject, report.decision.target);
  return report;
}

} // namespace

TEST(GroupLoads, AreRelativeToTheMean) {
  PlanReport report = makeReport("h100x8", true);
  EXPECT_THAT(groupLoads(report.stats, 2, true)[0],
              testing::Pointwise(testing::DoubleNear(1e-9), {1.6, 0.4}));
  EXPECT_THAT(groupLoads(report.stats, 2, false)[0],
              testing::Pointwise(testing::DoubleNear(1e-9), {1.2, 0.8}));
}

TEST(PlanText, FitsOneHundredColumns) {
  for (bool profiled : {false, true}) {
    std::istringstream lines(planText(makeReport("h100x8", profiled)));
    size_t count = 0;
    for (std::string line; std::getline(lines, line); ++count)
      EXPECT_LE(line.size(), 100u) << line;
    EXPECT_GT(count, 30u);
  }
}

TEST(PlanText, SaysWhatWasDecided) {
  std::string text = planText(makeReport("h100x8", false));
  EXPECT_THAT(text, HasSubstr("fits: tp 1 ep 2"));
  EXPECT_THAT(text, HasSubstr("79.2 GiB usable of 80.0 GB as sold"));
  EXPECT_THAT(text, HasSubstr("an upper bound"));
  EXPECT_THAT(text, HasSubstr("sweet spot"));
}

TEST(CompareSteps, TakesThoseOfTheModel) {
  PlanReport report = makeReport("h100x8", false);
  const Candidate &subject = *report.decision.subject();
  CostModel costs(report.model, subject.shape, subject.facts, report.decision.target, report.stats);
  Target target = report.decision.target;
  double seconds = costs.step(CostModel::decode(4, 100)).seconds;
  target.measured = {{"tiny", true, 4, 100, seconds / 2}, {"other", true, 4, 100, 1}};
  report.comparisons = compareSteps(costs, target, "tiny");
  ASSERT_EQ(report.comparisons.size(), 1u);
  EXPECT_NEAR(report.comparisons[0].error(), 1, 1e-9);
  EXPECT_THAT(planText(report), HasSubstr("+100.0 %"));
  EXPECT_EQ(planJson(report).find("measured")->size(), 1u);
}

TEST(PlanJson, HoldsEveryTableAndAddsUp) {
  PlanReport report = makeReport("h100x8", true);
  json::Value value = planJson(report);
  json::Cursor root(value, "report");
  EXPECT_EQ(*root.getString("schema"), "sluice-plan/1");
  json::Cursor memory = *root.getObject("memory"), weights = *memory.getObject("weights");
  int64_t sum = 0;
  for (const json::Member &entry : *weights.value().objectIf())
    sum += *entry.value.asInt();
  EXPECT_EQ(sum, *memory.getInt("weights_total"));
  EXPECT_EQ(*memory.getInt("slabs"),
            sum + *memory.getInt("kv") + *memory.getInt("activations") + *memory.getInt("io"));
  EXPECT_EQ(*memory.getInt("total"), *memory.getInt("slabs") + *memory.getInt("context") +
                                         *memory.getInt("collectives") + *memory.getInt("graphs"));
  EXPECT_EQ(*root.getObject("verdict")->getBool("fits"), true);
  EXPECT_EQ(root.getArray("parallelism")->value().size(), report.decision.candidates.size());
  EXPECT_EQ(root.getObject("batch_curve")->getArray("points")->value().size(), 4u);
  EXPECT_EQ(root.getObject("routing")->getArray("chosen")->value().size(), 2u);
  EXPECT_EQ(value.dump(), planJson(makeReport("h100x8", true)).dump());
}

TEST(PlanHtml, CarriesTheReportAndNothingFromOutside) {
  json::Value value = planJson(makeReport("h100x8", true));
  std::string page = planHtml(value);
  // The report can be read back from the page, whatever is in its names.
  const std::string open = "<script id=\"report\" type=\"application/json\">";
  size_t begin = page.find(open);
  ASSERT_NE(begin, std::string::npos);
  begin += open.size();
  std::string data = page.substr(begin, page.find("</script>", begin) - begin);
  Result<json::Value> read = json::parse(data, "page");
  ASSERT_TRUE(read.isOk()) << read.status().toString();
  EXPECT_EQ(*read, value);
  EXPECT_THAT(data, Not(HasSubstr("<b>")));
  for (const char *outside : {"http:", "https:", "src=", "@import", "url(", "<link"})
    EXPECT_THAT(page, Not(HasSubstr(outside)));
}
