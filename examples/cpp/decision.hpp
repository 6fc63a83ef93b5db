// The decision of docs/decision.md in C++17, without any library: from a gate's outputs to an action.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace safevlm {

enum class Action { allow, caution, block };

// What a bundle's manifest says. Labels are in the order of the type logits.
struct Rule {
    std::vector<std::string> labels;
    bool sigmoid = false;
    double temperature = 1.0;
    std::map<std::string, double> thresholds;
    double any_threshold = 1.0;
};

// What the operator says. A category without actions is switched off; actions are for low, medium and high.
struct Policy {
    std::map<std::string, std::array<Action, 3>> actions;
    std::map<std::string, double> thresholds;
    std::optional<double> any_threshold;
    Action on_error = Action::block;
};

// `error` is empty where the gate judged. A failed decision has no category, level or score.
struct Decision {
    Action action;
    std::string error, category;
    int level = 0;
    double score = 0.0;
};

inline bool all_finite(const std::vector<double>& values) {
    return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

inline std::vector<double> probabilities(const std::vector<double>& logits, const Rule& rule) {
    std::vector<double> p;
    for (double logit : logits) p.push_back(logit / rule.temperature);
    if (rule.sigmoid) {
        for (double& x : p) {
            const double e = std::exp(-std::fabs(x));
            x = x >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
        }
        return p;
    }
    const double largest = *std::max_element(p.begin(), p.end());
    double sum = 0.0;
    for (double& x : p) sum += x = std::exp(x - largest);
    for (double& x : p) x /= sum;
    return p;
}

inline Decision decide(const std::vector<double>& logits, const std::vector<double>& levels, const Rule& rule,
                       const Policy& policy) {
    if (logits.size() != rule.labels.size() || levels.size() != 4) return {policy.on_error, "output_shape", ""};
    if (!all_finite(logits) || !all_finite(levels)) return {policy.on_error, "output_not_finite", ""};
    const std::vector<double> p = probabilities(logits, rule);
    if (!all_finite(p)) return {policy.on_error, "output_not_finite", ""};

    // The risks that are wanted, the largest of them, and the score.
    std::vector<std::size_t> judged;
    double largest = 0.0, safe = 0.0, off = 0.0;
    for (std::size_t i = 0; i < p.size(); ++i) {
        if (rule.labels[i] == "safe") safe = p[i];
        else if (!policy.actions.count(rule.labels[i])) off += p[i];
        else judged.push_back(i), largest = std::max(largest, p[i]);
    }
    const double score = rule.sigmoid ? largest : std::min(1.0, std::max(0.0, 1.0 - safe - off));

    // Of the levels, `none` (0) never counts; a tie goes to the higher one.
    int level = 1;
    for (int i = 2; i <= 3; ++i)
        if (levels[i] >= levels[level]) level = i;

    const bool any = !judged.empty() && score >= policy.any_threshold.value_or(rule.any_threshold);
    const std::size_t none = p.size();
    std::size_t chosen = none;
    Action action = Action::allow;
    for (std::size_t i : judged) {
        const std::string& name = rule.labels[i];
        const auto own = policy.thresholds.find(name);
        const double threshold = own != policy.thresholds.end() ? own->second : rule.thresholds.at(name);
        if (!(p[i] >= threshold) && !(any && p[i] == largest)) continue;
        const Action follows = policy.actions.at(name)[level - 1];
        if (chosen == none || follows > action || (follows == action && p[i] > p[chosen])) {
            chosen = i;
            action = follows;
        }
    }
    if (chosen == none) return {Action::allow, "", "safe", 0, score};
    return {action, "", rule.labels[chosen], level, score};
}

}  // namespace safevlm
