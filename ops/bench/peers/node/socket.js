// Holds the users' sockets: a token at the door, a room for each user, and Redis to hear from the workers.
'use strict';

const { createServer } = require('node:http');
const { createAdapter } = require('@socket.io/redis-adapter');
const jwt = require('jsonwebtoken');
const { Server } = require('socket.io');
const { connectRedis, sayReady } = require('./shared');

const http = createServer();
const io = new Server(http, { adapter: createAdapter(connectRedis(), connectRedis()), serveClient: false });

io.use((socket, next) => {
  try {
    socket.data.user = jwt.verify(socket.handshake.auth.token, process.env.JWT_SECRET, { algorithms: ['HS256'] }).sub;
    next();
  } catch {
    next(new Error('unauthorized'));
  }
});

io.on('connection', (socket) => socket.join(`user:${socket.data.user}`));

http.listen(Number(process.env.PORT), '127.0.0.1', sayReady);
