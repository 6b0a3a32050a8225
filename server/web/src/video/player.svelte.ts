// A camera that is looked at: begun, kept going where the connection is lost, and ended.

import { type ApiError, get } from '../api/client.ts';
import type { Camera, Page } from '../api/types.ts';
import { devicePath } from '../api/client.ts';
import { canDecode, CodecsScreen, NO_DECODER } from './codecs-screen.ts';
import { canPlay, MseScreen } from './mse-screen.ts';
import { sink } from './picture.ts';
import type { Figures, Screen, ScreenEvents } from './screen.ts';
import type { StreamEnd } from './units.ts';

/** `off`: nobody looks; `starting`: the first picture is waited for; `lost`: it comes back by itself, perhaps. */
type Phase = 'off' | 'starting' | 'live' | 'lost' | 'ended';

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 15_000;
/** A page that nobody looks at shows nothing for longer than that. */
const HIDDEN_LIMIT = 10_000;
/** Whoever was told this does not ask again by themselves. A device that is just back has not told of its cameras yet. */
const FINAL = ['stopped', NO_DECODER, 'denied', 'not-logged-in', 'revoked'];
/** The camera itself gives nothing. */
const FAULTS = ['camera-ended', 'camera-failed'];
/** After so many of these without a picture it is for somebody to say that it is worth another try: each is a task. */
const MOST_FAULTS = 5;
/** For tests and for whoever looks for a fault: `mse` shows by MSE also where there are WebCodecs. */
const WAY = 'holdfast-player';

export class Player {
  phase: Phase = $state('off');
  figures: Figures | undefined = $state.raw();
  /** What shows the picture. */
  element: HTMLElement | undefined = $state.raw();
  /** Why it has ended, or was lost. */
  end: StreamEnd | undefined = $state.raw();
  way: 'WebCodecs' | 'MSE' | undefined = $state();

  #screen: Screen | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #hidden: ReturnType<typeof setTimeout> | undefined;
  #pause = FIRST_PAUSE;
  #isHidden = false;
  /** How often the camera gave nothing since there was a picture. */
  #faults = 0;
  /** One for all tries: it may float in a window of its own. */
  #canvas: HTMLCanvasElement | undefined;
  /** This browser's WebCodecs can't show this camera. */
  #needsMse = false;

  constructor(
    private readonly device: string,
    private readonly camera: string,
  ) {
    document.addEventListener('visibilitychange', this.#look);
  }

  /** Whether somebody wants to see it. */
  get isOn(): boolean {
    return this.phase !== 'off' && this.phase !== 'ended';
  }

  start = (): void => {
    this.end = undefined;
    this.#pause = FIRST_PAUSE;
    this.#faults = 0;
    this.#open('starting');
  };

  /** There is reason to think that a picture that was lost can be had now. */
  again = (): void => {
    const isGivenUp = this.phase === 'ended' && this.#faults >= MOST_FAULTS;
    if (this.phase !== 'lost' && !isGivenUp) return;
    this.#faults = 0;
    this.#open('lost');
  };

  stop = (): void => {
    this.#close();
    this.phase = 'off';
    this.element = undefined;
    this.figures = undefined;
    void sink();
  };

  /** For whoever goes away. */
  leave(): void {
    this.stop();
    document.removeEventListener('visibilitychange', this.#look);
  }

  #open(phase: Phase): void {
    this.#close();
    this.phase = phase;
    const events: ScreenEvents = {
      shown: () => {
        this.phase = 'live';
        this.end = undefined;
        this.#pause = FIRST_PAUSE;
        this.#faults = 0;
        this.element = this.#screen?.element;
      },
      figures: (figures) => (this.figures = figures),
      ended: (end) => void this.#ended(end),
    };
    const wantsMse = this.#needsMse || sessionStorage.getItem(WAY) === 'mse';
    if (canDecode() && !wantsMse) {
      this.way = 'WebCodecs';
      this.#canvas ??= document.createElement('canvas');
      this.#screen = new CodecsScreen(this.device, this.camera, events, this.#canvas);
    } else if (canPlay()) {
      this.way = 'MSE';
      this.#screen = new MseScreen(this.device, this.camera, events);
      // It shows nothing before it stands in the page.
      this.element = this.#screen.element;
    } else {
      this.phase = 'ended';
      this.end = {
        code: 'no-player',
        message: 'This browser can show no live video: it has neither WebCodecs nor MSE.',
      };
    }
  }

  #close(): void {
    clearTimeout(this.#retry);
    clearTimeout(this.#hidden);
    this.#screen?.stop();
    this.#screen = undefined;
  }

  async #ended(end: StreamEnd | undefined): Promise<void> {
    this.figures = undefined;
    if (end?.code === NO_DECODER && canPlay()) {
      this.#needsMse = true;
      this.#open('starting');
      return;
    }
    const before = this.#screen;
    const why = end ?? (await this.#reason());
    // Somebody may have stopped it meanwhile, and begun it anew.
    if (this.#screen !== before) return;
    this.end = why;
    if (why && FAULTS.includes(why.code)) this.#faults += 1;
    if ((why && FINAL.includes(why.code)) || this.#faults >= MOST_FAULTS) {
      this.#close();
      this.phase = 'ended';
      void sink();
      return;
    }
    this.phase = 'lost';
    this.#retry = setTimeout(() => this.#open('lost'), this.#pause);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }

  /** A WebSocket that was refused does not say why; another request may. */
  async #reason(): Promise<StreamEnd | undefined> {
    try {
      const { items } = await get<Page<Camera>>(devicePath(this.device, '/cameras'));
      if (items.some(({ name }) => name === this.camera)) return undefined;
      return { code: 'offline', message: 'The device does not tell of this camera now.' };
    } catch (problem) {
      const { code, message } = problem as ApiError;
      return { code, message };
    }
  }

  #look = (): void => {
    clearTimeout(this.#hidden);
    if (!document.hidden) {
      if (this.#isHidden && this.isOn) this.#open('starting');
      this.#isHidden = false;
    } else if (this.isOn && !document.pictureInPictureElement) {
      this.#hidden = setTimeout(() => {
        this.#isHidden = true;
        this.#close();
      }, HIDDEN_LIMIT);
    }
  };
}
