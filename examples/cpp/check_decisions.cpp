// Checks decision.hpp against docs/conformance/decisions.txt: c++ -std=c++17 check_decisions.cpp && ./a.out FILE
#include <cstdlib>
#include <fstream>
#include <iostream>

#include "decision.hpp"

using namespace safevlm;

static Action action_of(const std::string& word) {
    if (word == "allow") return Action::allow;
    if (word == "caution") return Action::caution;
    if (word == "block") return Action::block;
    throw std::runtime_error("no action: " + word);
}

// Streams do not read nan and inf.
static double number(std::istream& in) {
    std::string word;
    in >> word;
    return std::strtod(word.c_str(), nullptr);
}

static std::vector<double> numbers(std::istream& in) {
    std::size_t count = 0;
    in >> count;
    std::vector<double> values(count);
    for (double& value : values) value = number(in);
    return values;
}

int main(int argc, char** argv) {
    std::ifstream in(argc > 1 ? argv[1] : "decisions.txt");
    std::string word, name, a, b, c;
    std::vector<double> logits, levels;
    Rule rule;
    Policy policy;
    int passed = 0, failed = 0;
    while (in >> word) {
        if (word == "case") {
            std::getline(in >> std::ws, name);
            rule = {};
            policy = {};
        } else if (word == "type_logits") logits = numbers(in);
        else if (word == "level_logprobs") levels = numbers(in);
        else if (word == "labels") {
            std::size_t count = 0;
            in >> count;
            rule.labels.resize(count);
            for (std::string& label : rule.labels) in >> label;
        } else if (word == "activation") in >> a, rule.sigmoid = a == "sigmoid";
        else if (word == "temperature") rule.temperature = number(in);
        else if (word == "any_threshold") rule.any_threshold = number(in);
        else if (word == "threshold") in >> a, rule.thresholds[a] = number(in);
        else if (word == "policy_threshold") in >> a, policy.thresholds[a] = number(in);
        else if (word == "policy_any_threshold") policy.any_threshold = number(in);
        else if (word == "on_error") in >> a, policy.on_error = action_of(a);
        else if (word == "actions") {
            std::string category;
            in >> category >> a >> b >> c;
            policy.actions[category] = {action_of(a), action_of(b), action_of(c)};
        } else if (word == "expect") {
            std::string error, action, category, level, score;
            in >> error >> action >> category >> level >> score;
            const Decision found = decide(logits, levels, rule, policy);
            bool same = found.action == action_of(action) && found.error == (error == "-" ? "" : error);
            if (error == "-")
                same = same && found.category == category && found.level == std::atoi(level.c_str()) &&
                       std::fabs(found.score - std::strtod(score.c_str(), nullptr)) <= 1e-9;
            if (!same) std::cout << "differs: " << name << "\n";
            ++(same ? passed : failed);
        } else throw std::runtime_error("unknown word: " + word);
    }
    std::cout << passed << " passed, " << failed << " failed\n";
    return passed > 0 && failed == 0 ? 0 : 1;
}
