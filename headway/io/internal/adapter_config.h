// The half of write_adapter that writes adapter_config.json. Not for: other folders.
#pragma once

#include <filesystem>

#include "headway/io/adapter.h"

namespace headway::io::internal {

void write_adapter_config(const std::filesystem::path& folder, const AdapterContent& content);

}  // namespace headway::io::internal
