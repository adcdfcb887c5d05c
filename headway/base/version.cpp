// The version of the library; the number itself lives in the top CMakeLists.txt only.
#include "headway/base/version.h"

namespace headway {

std::string_view version() { return HEADWAY_VERSION; }

}  // namespace headway
