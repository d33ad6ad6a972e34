// Classifies an image with a model that qcompile wrote: classify MODEL LIBRARY IMAGE [MEAN STD]
// IMAGE is a binary PPM or PGM of the model's size; MEAN and STD are three numbers each, separated by commas.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using Channels = std::array<float, 3>;

struct Image {
  int64_t channels = 0, height = 0, width = 0;
  std::vector<unsigned char> pixels;  // rows of pixels, the channels of a pixel beside each other
};

Image ReadImage(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  Image image;
  int largest = 0;
  file >> magic >> image.width >> image.height >> largest;
  file.get();  // the one space in front of the pixels
  image.channels = magic == "P6" ? 3 : 1;
  if (!file || (magic != "P5" && magic != "P6") || largest != 255 || image.width < 1 || image.height < 1 ||
      image.width > 1 << 15 || image.height > 1 << 15)
    throw std::runtime_error(path + " is not a binary PPM or PGM image of 8 bits");
  image.pixels.resize(static_cast<size_t>(image.channels * image.height * image.width));
  if (!file.read(reinterpret_cast<char*>(image.pixels.data()), static_cast<std::streamsize>(image.pixels.size())))
    throw std::runtime_error(path + " is truncated");
  return image;
}

Channels ParseChannels(const std::string& text) {
  Channels values{};
  char comma = ',';
  std::istringstream stream(text);
  stream >> values[0] >> comma >> values[1] >> comma >> values[2];
  if (!stream || comma != ',') throw std::runtime_error("'" + text + "' is not three numbers with commas");
  return values;
}

// Scaled to [0, 1], normalised, and one plane per channel: what the model was calibrated on.
std::vector<float> Preprocess(const Image& image, const Channels& mean, const Channels& std) {
  const size_t channels = image.channels, plane = image.height * image.width;
  std::vector<float> values(channels * plane);
  for (size_t c = 0; c < channels; ++c)
    for (size_t i = 0; i < plane; ++i)
      values[c * plane + i] = (image.pixels[i * channels + c] / 255.0f - mean[c]) / std[c];
  return values;
}

void Run(const std::string& model, const std::string& library, const Image& image, const Channels& mean,
         const Channels& std) {
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "classify");
  Ort::SessionOptions options;
  options.RegisterCustomOpsLibrary(library.c_str());
  options.AddConfigEntry("session.force_spinning_stop", "1");  // idle threads sleep
  Ort::Session session(env, model.c_str(), options);

  const std::array<int64_t, 4> shape{1, image.channels, image.height, image.width};
  std::vector<float> values = Preprocess(image, mean, std);
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto input = Ort::Value::CreateTensor<float>(memory, values.data(), values.size(), shape.data(), shape.size());
  Ort::AllocatorWithDefaultOptions allocator;
  const auto input_name = session.GetInputNameAllocated(0, allocator);
  const auto output_name = session.GetOutputNameAllocated(0, allocator);
  const char *inputs[] = {input_name.get()}, *outputs[] = {output_name.get()};
  const auto results = session.Run(Ort::RunOptions{nullptr}, inputs, &input, 1, outputs, 1);

  const float* scores = results[0].GetTensorData<float>();
  std::vector<size_t> classes(results[0].GetTensorTypeAndShapeInfo().GetElementCount());
  std::iota(classes.begin(), classes.end(), 0);
  std::sort(classes.begin(), classes.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  double sum = 0;
  for (size_t index : classes) sum += std::exp(scores[index] - scores[classes[0]]);
  classes.resize(std::min<size_t>(classes.size(), 5));
  for (size_t index : classes)
    std::printf("%zu %.6f %.9g\n", index, std::exp(scores[index] - scores[classes[0]]) / sum, scores[index]);
}

int main(int count, char** words) try {
  if (count != 4 && count != 6) throw std::runtime_error("usage: classify MODEL LIBRARY IMAGE [MEAN STD]");
  const Channels half{0.5f, 0.5f, 0.5f};
  Run(words[1], words[2], ReadImage(words[3]), count == 6 ? ParseChannels(words[4]) : half,
      count == 6 ? ParseChannels(words[5]) : half);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "classify: %s\n", error.what());
  return 1;
}
