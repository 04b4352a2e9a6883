// What the viewer says, in the page's language: Chinese, or else English.

const signed = (stops, digits = 1) => `${stops < 0 ? "−" : "+"}${Math.abs(stops).toFixed(digits)}`;

/** Whole degrees, with a true minus. */
const degrees = (angle) => `${angle < -0.5 ? "−" : ""}${Math.abs(angle).toFixed(0)}°`;

/** Where a light stands, as an index: 0 the camera's side, then by 45° to 4, behind the subject. */
const around = (azimuth) => Math.min(4, Math.floor((Math.abs(azimuth) + 22.5) / 45));

function placeInEnglish({ azimuth, elevation }) {
  if (Math.abs(elevation) > 70) return elevation > 0 ? "above" : "below";
  const side = azimuth > 0 ? "right" : "left";
  const places = ["the camera", `the front ${side}`, `the ${side}`, `the back ${side}`, "behind the subject"];
  return places[around(azimuth)] + (elevation > 35 ? ", high" : elevation < -20 ? ", low" : "");
}

function placeInChinese({ azimuth, elevation }) {
  if (Math.abs(elevation) > 70) return elevation > 0 ? "正上方" : "正下方";
  const side = azimuth > 0 ? "右" : "左";
  const places = ["相机方向", `${side}前方`, `${side}侧`, `${side}后方`, "主体背后"];
  return places[around(azimuth)] + (elevation > 35 ? "高处" : elevation < -20 ? "低处" : "");
}

const ENGLISH = {
  viewer: "Environment map. Drag or arrow keys: look around. Wheel or Page Up, Page Down: zoom. Plus, minus: exposure.",
  look: "Look around",
  flat: "Lat-long",
  falseColors: "False colours",
  falseColorsHelp: "A colour a stop; the scale counts stops over radiance 1, a white pixel of the portrait.",
  balls: "Balls",
  ballsHelp: "A mirror, a matte silver and a diffuse ball in this light. They turn with you.",
  reset: "Reset view",
  resetHelp: "Look straight ahead, as the portrait's camera.",
  exposure: "Exposure, stops",
  exposureHelp: "At 0 a radiance of 1 is a white pixel, as in the portrait.",
  auto: "Auto",
  autoHelp: "Expose so that most of the map is well seen.",
  map: "Map",
  empty: "Run the graph to see the map.",
  gone: "The map is no longer there. Run the graph again.",
  noWebGL: "This browser cannot draw the map: it needs WebGL 2 with float textures.",
  noLight: "No main light: the light is even.",
  light: (light) =>
    `Main light from ${placeInEnglish(light)}: ${degrees(light.azimuth)} around, ${degrees(light.elevation)} up, ` +
    `${signed(light.stops)} stops, ${degrees(light.diameter)} wide, ${(100 * light.share).toFixed(0)}% of the light there.`,
  signed,
};

const CHINESE = {
  viewer: "环境贴图。拖动或方向键：环视；滚轮或 Page Up、Page Down：缩放；加号、减号：曝光。",
  look: "环视",
  flat: "经纬展开图",
  falseColors: "伪色",
  falseColorsHelp: "每档一种颜色；刻度为相对于辐射亮度 1（人像中的纯白像素）的档数。",
  balls: "参考球",
  ballsHelp: "此光照下的镜面球、哑光银球和漫反射球，随视角转动。",
  reset: "重置视角",
  resetHelp: "朝正前方看，与拍摄人像的相机一致。",
  exposure: "曝光（档）",
  exposureHelp: "为 0 时，辐射亮度 1 显示为纯白，与人像一致。",
  auto: "自动",
  autoHelp: "自动曝光，使贴图大部分清晰可见。",
  map: "贴图",
  empty: "运行工作流后显示贴图。",
  gone: "贴图已不存在，请重新运行工作流。",
  noWebGL: "此浏览器无法显示贴图：需要支持浮点纹理的 WebGL 2。",
  noLight: "没有主光：光照均匀。",
  light: (light) =>
    `主光来自${placeInChinese(light)}：方位角 ${degrees(light.azimuth)}，仰角 ${degrees(light.elevation)}，` +
    `${signed(light.stops)} 档，角直径 ${degrees(light.diameter)}，占该处光量的 ${(100 * light.share).toFixed(0)}%。`,
  signed,
};

/** The labels for a language code such as "zh" or "en-GB". */
export const labelsFor = (language) => (String(language).toLowerCase().startsWith("zh") ? CHINESE : ENGLISH);
