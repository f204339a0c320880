// Report: the figures of one benchmark, those with a target among them, met or not.
//
// A program adds its figures as it finds them and ends with finish(): it prints a line for each target and gives the exit
// status. Where BENCH_FIGURES names a file, each figure is also added to it as a line of JSON, from which bench/run makes
// the table of all targets, the comparison of two revisions and the plots.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace sallyport::bench {

// 0 of none.
inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

class Report {
 public:
  // No unit: a ratio, or a count.
  void at_most(std::string what, double measured, double limit, const char* unit = "") {
    figures_.push_back({std::move(what), measured, unit, Target::at_most, limit});
  }
  void at_least(std::string what, double measured, double limit, const char* unit = "") {
    figures_.push_back({std::move(what), measured, unit, Target::at_least, limit});
  }
  // Without a target; `more_is_better` says which way a change of it counts.
  void figure(std::string what, double measured, const char* unit, bool more_is_better = false) {
    figures_.push_back({std::move(what), measured, unit,
                        more_is_better ? Target::more_is_better : Target::less_is_better, 0});
  }

  // 0, or 1 when a target is not met.
  int finish() const {
    tell();
    int missed = 0, targets = 0;
    for (const Figure& each : figures_) {
      if (!each.has_target()) {
        continue;
      }
      if (targets++ == 0) {
        std::printf("\ntargets\n");
      }
      missed += each.is_met() ? 0 : 1;
      std::printf("  %-66s %10.2f %-5s %s %9.2f   %s\n", each.what.c_str(), each.measured,
                  each.unit, each.target == Target::at_least ? ">=" : "<=", each.limit,
                  each.is_met() ? "met" : "NOT MET");
    }
    return missed == 0 ? 0 : 1;
  }

 private:
  enum class Target { at_most, at_least, less_is_better, more_is_better };

  struct Figure {
    std::string what;  // plain words: no quotes, no backslashes
    double measured;
    const char* unit;
    Target target;
    double limit;

    bool has_target() const { return target == Target::at_most || target == Target::at_least; }
    bool more_is_better() const {
      return target == Target::at_least || target == Target::more_is_better;
    }
    bool is_met() const {
      return target == Target::at_least ? measured >= limit : measured <= limit;
    }
  };

  void tell() const {
    const char* path = std::getenv("BENCH_FIGURES");
    FILE* file = path == nullptr ? nullptr : std::fopen(path, "a");
    if (file == nullptr) {
      return;
    }
    for (const Figure& each : figures_) {
      std::fprintf(file, R"({"what": "%s", "measured": %.6g, "unit": "%s", "more_is_better": %s)",
                   each.what.c_str(), each.measured, each.unit,
                   each.more_is_better() ? "true" : "false");
      if (each.has_target()) {
        std::fprintf(file, R"(, "limit": %.6g)", each.limit);
      }
      std::fprintf(file, "}\n");
    }
    std::fclose(file);
  }

  std::vector<Figure> figures_;
};

}  // namespace sallyport::bench
