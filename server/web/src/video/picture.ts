// What is done with a picture that is shown.

type Shown = HTMLElement | undefined;

function size(element: HTMLCanvasElement | HTMLVideoElement): [number, number] {
  return element instanceof HTMLVideoElement
    ? [element.videoWidth, element.videoHeight]
    : [element.width, element.height];
}

function isPicture(element: Shown): element is HTMLCanvasElement | HTMLVideoElement {
  return element instanceof HTMLCanvasElement || element instanceof HTMLVideoElement;
}

/** Keeps the picture of now as a file, named after its camera and the time. */
export async function snapshot(element: Shown, name: string): Promise<void> {
  if (!isPicture(element)) return;
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = size(element);
  copy.getContext('2d')?.drawImage(element, 0, 0);
  const picture = await new Promise<Blob | null>((resolve) => copy.toBlob(resolve, 'image/png'));
  if (!picture) throw new Error('the picture could not be kept');
  const link = document.createElement('a');
  link.href = URL.createObjectURL(picture);
  link.download = `${name}-${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Closes the small window, if there is one: nothing more comes. */
export async function sink(): Promise<void> {
  // It may have gone meanwhile.
  if (document.pictureInPictureElement) await document.exitPictureInPicture().catch(() => {});
}

/** Shows the picture in a small window of its own, or no longer. */
export async function floatPicture(element: Shown): Promise<void> {
  if (document.pictureInPictureElement) return document.exitPictureInPicture();
  if (element instanceof HTMLVideoElement) return void (await element.requestPictureInPicture());
  if (!(element instanceof HTMLCanvasElement)) return;
  // Only a video can float: this one shows what the canvas does.
  const video = document.createElement('video');
  const stream = element.captureStream();
  video.muted = true;
  video.srcObject = stream;
  await video.play();
  await video.requestPictureInPicture();
  video.addEventListener('leavepictureinpicture', () => {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  });
}
