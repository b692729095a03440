#pragma once
// Text -> JsonValue; only json.cpp needs it.

#include <string>
#include <string_view>

#include "bundle/json.hpp"

namespace edgead {

class JsonParser {
 public:
  explicit JsonParser(const std::string &source) : source_(source) {}

  JsonValue parse(std::string_view text) const;

 private:
  const std::string &source_;
};

}  // namespace edgead
