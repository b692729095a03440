#pragma once
// Fields that manifest and side-car share. Each throws Error(BUNDLE) with the field's path.

#include <string>

#include "bundle/json.hpp"
#include "bundle/manifest.hpp"

namespace edgead {

// `owner` (a target) stands in messages before the problem.
ThresholdValues read_thresholds(const JsonField &field, const std::string &owner);
void check_date(const std::string &text, const std::string &where);
// A number that a float holds, too.
float read_float(const JsonField &field);
// Provenance: hashes, dates, and that no image was trained on that decides.
void check_provenance(const JsonField &provenance, const std::string &source);

}  // namespace edgead
