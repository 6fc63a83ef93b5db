// Runs a gate on uint8 RGB in ONNX Runtime and checks it against docs/conformance/images.txt:
//   c++ -std=c++17 -I ORT/include rgb_gate.cpp -L ORT/lib -lonnxruntime && ./a.out rgb_gate.onnx images.txt
#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <fstream>
#include <iostream>

#include "decision.hpp"

using namespace safevlm;

class RgbGate {
   public:
    explicit RgbGate(const std::string& path) : session_(env_, path.c_str(), options()) {}

    // Type logits and level log-probabilities of one image: height * width * 3 bytes, row by row.
    std::pair<std::vector<double>, std::vector<double>> run(std::vector<std::uint8_t>& rgb, int height, int width) {
        const std::array<std::int64_t, 3> shape{height, width, 3};
        Ort::Value image = Ort::Value::CreateTensor<std::uint8_t>(memory_, rgb.data(), rgb.size(), shape.data(), 3);
        const char* inputs[] = {"rgb"};
        const char* outputs[] = {"type_logits", "level_logprobs"};
        auto found = session_.Run(Ort::RunOptions{}, inputs, &image, 1, outputs, 2);
        return {values(found[0]), values(found[1])};
    }

   private:
    static Ort::SessionOptions options() {
        Ort::SessionOptions options;
        options.SetIntraOpNumThreads(1);
        return options;
    }

    static std::vector<double> values(const Ort::Value& tensor) {
        const float* data = tensor.GetTensorData<float>();
        return {data, data + tensor.GetTensorTypeAndShapeInfo().GetElementCount()};
    }

    Ort::Env env_{ORT_LOGGING_LEVEL_WARNING, "safevlm"};
    Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    Ort::Session session_;
};

static std::vector<double> numbers(std::istream& in, const std::string& wanted) {
    std::string word;
    std::size_t count = 0;
    in >> word >> count;
    if (word != wanted) throw std::runtime_error("expected " + wanted + ", found " + word);
    std::vector<double> values(count);
    for (double& value : values) in >> value;
    return values;
}

static double difference(const std::vector<double>& a, const std::vector<double>& b) {
    double largest = a.size() == b.size() ? 0.0 : 1.0;
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) largest = std::max(largest, std::fabs(a[i] - b[i]));
    return largest;
}

int main(int argc, char** argv) {
    if (argc != 3) return std::cerr << "usage: rgb_gate GRAPH IMAGES\n", 2;
    // In an application these come from the bundle's manifest.json and policy.toml.
    const Rule rule{{"privacy", "illegal_risk", "misleading", "safe"}, false, 1.0,
                    {{"privacy", 0.5}, {"illegal_risk", 0.5}, {"misleading", 0.5}}, 0.6};
    Policy policy;
    policy.actions["privacy"] = {Action::caution, Action::caution, Action::block};
    policy.actions["illegal_risk"] = {Action::block, Action::block, Action::block};
    policy.actions["misleading"] = {Action::allow, Action::caution, Action::caution};

    RgbGate gate(argv[1]);
    std::ifstream in(argv[2]);
    std::string word, hex;
    int height = 0, width = 0, passed = 0, failed = 0;
    while (in >> word >> height >> width >> hex) {
        std::vector<std::uint8_t> rgb;
        for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
            rgb.push_back(static_cast<std::uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
        const auto wanted_types = numbers(in, "type_logits"), wanted_levels = numbers(in, "level_logprobs");
        const auto [types, levels] = gate.run(rgb, height, width);
        const double error = std::max(difference(types, wanted_types), difference(levels, wanted_levels));
        const Decision decision = decide(types, levels, rule, policy);
        const Decision wanted = decide(wanted_types, wanted_levels, rule, policy);
        const bool same = error <= 1e-4 && decision.action == wanted.action && decision.category == wanted.category;
        std::cout << height << " x " << width << ": " << decision.category << ", score " << decision.score
                  << ", off by " << error << (same ? "\n" : "  DIFFERS\n");
        ++(same ? passed : failed);
    }
    std::cout << passed << " passed, " << failed << " failed\n";
    return passed > 0 && failed == 0 ? 0 : 1;
}
