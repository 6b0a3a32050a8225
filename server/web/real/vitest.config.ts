import { defineConfig } from 'vitest/config';

// The console that the real server carries, with real agents, in a real browser: `npm run real`.
export default defineConfig({
  test: {
    include: ['real/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 60_000,
  },
});
