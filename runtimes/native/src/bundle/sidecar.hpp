#pragma once
// Thresholds set on site: NAME.edgead.thresholds.json beside the bundle.

#include <map>
#include <string>

#include "bundle/manifest.hpp"

namespace edgead {

// By target; empty where there is no side-car. `bundle` (UTF-8) is resolved first: the file lies beside the bundle,
// not beside a link to it. Throws Error(BUNDLE): damaged, by a newer edgead, or not of the bundle `digest`.
std::map<std::string, ThresholdValues> read_sidecar(const std::string &bundle, const std::string &digest);
// The same of the file's text; `source` names it in messages.
std::map<std::string, ThresholdValues> parse_sidecar(const std::string &text, const std::string &source,
                                                     const std::string &digest);

}  // namespace edgead
