// Stop strings over any cut of the text.
#include "headway/engine/stop_strings.h"

#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::engine {
namespace {

std::string run(std::vector<std::string> stops, const std::string& text, size_t piece) {
  StopStrings filter(std::move(stops));
  std::string out;
  for (size_t at = 0; at < text.size(); at += piece) out += filter.push(text.substr(at, piece));
  return out + filter.finish();
}

TEST(StopStrings, CutsBeforeTheFirstStopHoweverTheTextArrives) {
  for (size_t piece = 1; piece <= 12; ++piece) {
    EXPECT_EQ(run({"END"}, "one END two END", piece), "one ");
    EXPECT_EQ(run({"aab"}, "aaaab!", piece), "aa");
    EXPECT_EQ(run({"xyz", "yz"}, "wyz xyz", piece), "w");
    EXPECT_EQ(run({"never"}, "nev nevertheless", piece), "nev ");
    EXPECT_EQ(run({}, "all of it", piece), "all of it");
  }
}

TEST(StopStrings, HeldBackTextComesAtTheEnd) {
  StopStrings filter({"stop"});
  EXPECT_EQ(filter.push("sto"), "");
  EXPECT_FALSE(filter.stopped());
  EXPECT_EQ(filter.finish(), "sto");
}

TEST(StopStrings, NothingComesAfterAStop) {
  StopStrings filter({"!"});
  EXPECT_EQ(filter.push("a!b"), "a");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.push("c"), "");
  EXPECT_EQ(filter.finish(), "");
}

TEST(StopStrings, EmptyStopIsRefused) { EXPECT_THROW(StopStrings({""}), ConfigError); }

}  // namespace
}  // namespace headway::engine
