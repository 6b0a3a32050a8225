import { defineConfig } from 'vitest/config';

// In a real browser, against the built console: `npm run browse`.
export default defineConfig({
  test: {
    include: ['browser/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 60_000,
  },
});
