// The generated character tables in their packed form.
// Not for: anyone but unicode.cpp, which unpacks them.
#pragma once

namespace headway::text::tables {

extern const char* const kCategoryRuns;
extern const char* const kRegexWord;
extern const char* const kWord;
extern const char* const kPunctuation;
extern const char* const kNumeric;
extern const char* const kAccents;
extern const char* const kBertControl;
extern const char* const kBertAccents;
extern const char* const kUnicode9;
extern const char* const kLowercase;

}  // namespace headway::text::tables
