// Runs in the page: reads the times that stand in a camera's pictures (`src/video/camera.rs`), and how old they are.

/** Makes what reads them, as `globalThis.stamps`. */
export function install() {
  const BITS = 32;
  const BLOCK = 16;
  const WRAP = 2 ** 24;
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [BITS, 1];
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingEnabled = false;

  // The page's own clock is finer than the one that all share: how far they are apart is seen when that one moves on.
  let apart = -Infinity;
  for (const end = performance.now() + 50; performance.now() < end;)
    apart = Math.max(apart, Date.now() - performance.now());
  const now = () => performance.now() + apart;

  const shown = () => document.querySelector('.picture canvas, .picture video');

  /** The time in the picture that is shown, in tenths of milliseconds; nothing, where there is none. */
  function read() {
    const picture = shown();
    if (!picture || (picture.videoWidth ?? picture.width) !== 640) return undefined;
    // The middle of each block.
    context.drawImage(picture, 0, 0, BITS * BLOCK, 2 * BLOCK, 0, 0, BITS, 1);
    const { data } = context.getImageData(0, 0, BITS, 1);
    let bits = 0n;
    for (let index = 0; index < BITS; index += 1) bits = (bits << 1n) | (data[4 * index] > 128 ? 1n : 0n);
    const time = Number(bits >> 8n);
    const sum = (0x5a + (time >> 16) + ((time >> 8) & 0xff) + (time & 0xff)) & 0xff;
    return sum === Number(bits & 0xffn) ? time : undefined;
  }

  const button = (name) =>
    [...document.querySelectorAll('button')].find((each) => name.test(each.ariaLabel ?? each.textContent));
  const nextFrame = () => new Promise((resolve) => requestAnimationFrame(resolve));

  async function until(look) {
    for (const end = performance.now() + 20_000; performance.now() < end; await nextFrame()) {
      const found = look();
      if (found !== undefined && found !== null && found !== false) return found;
    }
    throw new Error(`waited in vain for ${look}`);
  }

  globalThis.stamps = {
    /** Begins to look; gives how long the first picture takes, in milliseconds. */
    async begin() {
      const start = await until(() => button(/Show the picture/));
      const before = performance.now();
      start.click();
      await until(() => read() !== undefined);
      return performance.now() - before;
    },
    async end() {
      (await until(() => button(/Stop/))).click();
      await until(() => !shown());
    },
    /** How old so many pictures were in the first animation frame that showed them, in milliseconds; and their rate. */
    async ages(count) {
      const ages = [];
      let last = read();
      const begun = performance.now();
      while (ages.length < count && performance.now() - begun < 60_000) {
        await nextFrame();
        const time = read();
        if (time === undefined || time === last) continue;
        last = time;
        const age = (((now() * 10 - time) % WRAP) + WRAP) % WRAP;
        ages.push(age / 10);
      }
      return { ages, rate: (1000 * ages.length) / (performance.now() - begun) };
    },
  };
}
