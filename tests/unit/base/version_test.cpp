// The version string has the form that --version and the package files promise.
#include "headway/base/version.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

TEST(Version, IsMajorMinorPatch) {
  EXPECT_THAT(std::string(headway::version()), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
}
