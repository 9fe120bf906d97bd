export default { test: { include: ["suite.test.js"], testTimeout: 60000, hookTimeout: 60000 } };
