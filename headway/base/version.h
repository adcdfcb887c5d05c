// The version of the library, as one string. Not for what the build contains (kernels, libtorch,
// MPI): `headway doctor` reports that.
#pragma once

#include <string_view>

namespace headway {

/// "major.minor.patch", the version of the CMake project.
std::string_view version();

}  // namespace headway
