// Holds the users' sockets: a token at the door, a room for each user, those that the token lets it join, and Redis to
// hear from the workers and the API.
'use strict';

const { createServer } = require('node:http');
const { createAdapter } = require('@socket.io/redis-adapter');
const jwt = require('jsonwebtoken');
const { Server } = require('socket.io');
const { connectRedis, roomName, sayReady } = require('./shared');

const http = createServer();
const io = new Server(http, { adapter: createAdapter(connectRedis(), connectRedis()), serveClient: false });

io.use((socket, next) => {
  try {
    const claims = jwt.verify(socket.handshake.auth.token, process.env.JWT_SECRET, { algorithms: ['HS256'] });
    socket.data.user = claims.sub;
    socket.data.grants = claims.rooms ?? [];
    next();
  } catch {
    next(new Error('unauthorized'));
  }
});

const grants = (grant, room) => (grant.endsWith('*') ? room.startsWith(grant.slice(0, -1)) : room === grant);

io.on('connection', (socket) => {
  socket.join(`user:${socket.data.user}`);

  socket.on('join', async (request, answer) => {
    if (typeof answer !== 'function') return;
    const room = request?.room;
    if (typeof room !== 'string' || !socket.data.grants.some((grant) => grants(grant, room))) {
      answer({ ok: false, error: 'forbidden' });
      return;
    }
    await socket.join(roomName(room));
    answer({ ok: true });
  });
});

http.listen(Number(process.env.PORT), '127.0.0.1', sayReady);
